"""`python -m rwkv_edge` is `rwkv-edge`."""

from rwkv_edge.cli import main

main()
