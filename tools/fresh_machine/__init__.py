"""The README's two commands on machines that nobody prepared: `make fresh-machine`."""
