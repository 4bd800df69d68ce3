#!/bin/sh
# The page of the lab's Internet: who asks, as the web server sees it.
printf 'Content-Type: text/plain\r\n\r\nThe Internet sees you as %s\n' "$REMOTE_ADDR"
