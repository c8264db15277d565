"""`python -m tfvlad_cli`."""

from tfvlad_cli.main import main

if __name__ == "__main__":
    main()
