"""`python -m trainer_cli …` is `mssg …`."""

from trainer_cli.main import main

if __name__ == "__main__":
    main()
