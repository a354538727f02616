"""``python -m ops`` is ``penstock``: how the supervisor starts its children, whatever is on the PATH."""

from ops.cli import main


if __name__ == "__main__":
    main()
