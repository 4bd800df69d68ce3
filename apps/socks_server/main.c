#include "socks/socks.h"

int main(int argc, char **argv)
{
	return socks_main(true, argc, argv);
}
