"""Packages bitbeam: the program (`pipeline`) and its Beam steps (`transforms`)."""

from pathlib import Path

from setuptools import find_packages, setup

CLOUD_S3 = ["boto3>=1.34"]
EMULATORS = ["gcp-storage-emulator>=2026.7", "moto[server]>=5.1"]
LINT = ["mypy>=2.4,<3", "ruff>=0.17.6,<0.18"]
PHOTOGRAPHS = ["scikit-image>=0.24", "scikit-learn>=1.5", "tifffile"]

setup(
    name="bitbeam",
    version="0.1.0",
    description="Shards of images in, a table of BiT embeddings and labels out.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(
        include=["pipeline", "pipeline.*", "transforms", "transforms.*"]
    ),
    package_data={"pipeline": ["rates.json"], "transforms.bit": ["data/*"]},
    install_requires=[
        "apache-beam[gcp]==2.77.0",
        "filelock>=3.13",
        "google-auth>=2.14",
        "google-cloud-storage>=2.18.2,<4",
        "google-crc32c>=1.5",
        "numpy>=1.26,<2.5",
        "pillow>=12.1.1,<13",
        "protobuf>=6.31.1,<7",
        "pyarrow>=19,<26",
        "requests>=2.31",
        "rich>=13",
        "setuptools<82",
        "tenacity>=9",
        "tensorflow==2.21.*",
        "tensorflow-hub>=0.16.1,<0.17",
    ],
    extras_require={
        "aws": CLOUD_S3,
        "gpu": ["tensorflow[and-cuda]==2.21.*"],
        "test": [
            *CLOUD_S3,
            *EMULATORS,
            *LINT,
            *PHOTOGRAPHS,
            "pytest>=8",
        ],
        "bench": PHOTOGRAPHS,
        "peers": ["torch==2.13.0", "transformers>=5"],
    },
    entry_points={"console_scripts": ["bitbeam = pipeline.cli:main"]},
)
