"""`python -m gateway` is `llava-gateway`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
