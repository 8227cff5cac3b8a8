"""`python -m service`, from the folder above this one."""

from .app import create_app
from .run import read_settings, serve
from .settings import Settings


def main() -> None:
    settings = read_settings(Settings)
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
