"""Map the top-level folders to sub-packages of `wardround`; the rest is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = {
    "wardround.server": "server",
    "wardround.site_client": "site_client",
    "wardround.shared": "shared",
    "wardround.deploy": "deploy",
    "wardround.wire": "protos/wardround/wire",
}

setup(
    package_dir=FOLDERS,
    packages=[
        name
        for package, folder in FOLDERS.items()
        for name in (package, *(f"{package}.{sub}" for sub in find_packages(folder)))
    ],
)
