#include "vpn/vpn.h"

int main(int argc, char **argv)
{
	return vpn_main(true, argc, argv);
}
