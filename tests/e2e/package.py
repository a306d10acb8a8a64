"""What `sam package` does: the functions and the nested templates in a bucket, and the template that points there."""

from __future__ import annotations

import compileall
import shutil
from dataclasses import replace
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

import boto3
import orjson

from lowtide_local.stack.intrinsics import read_yaml
from tests.template.sam_transform import transformed

from .patches import MAIN, Given, patch

ROOT = Path(__file__).parents[2]
BUCKET, CODE = "packages", "functions.zip"


def packaged(emulator_url: str, scratch: Path, given: Given) -> str:
    """Uploads everything. Returns the URL of the transformed and patched template."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    s3.upload_file(str(_zip(scratch)), BUCKET, CODE)

    def put(name: str, document: dict[str, Any], given: Given) -> str:
        patch(name, document, given)
        s3.put_object(Bucket=BUCKET, Key=name, Body=orjson.dumps(document))
        return f"{emulator_url}/{BUCKET}/{name}"

    def put_nested(path: str) -> str:
        return put(path, read_yaml(ROOT / path), replace(given, parameters={}))

    code = f"s3://{BUCKET}/{CODE}"
    return put(MAIN, transformed(read_yaml(ROOT / MAIN), given.parameters, code=code, uploaded=put_nested), given)


def _zip(scratch: Path) -> Path:
    """The functions with their bytecode, which is taken without a look at its source: MiniStack unpacks the zip for
    each process that it starts, and each would compile everything again."""
    own = shutil.copytree(ROOT / "functions", scratch / "functions", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(own, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    return Path(shutil.make_archive(str(scratch / "functions"), "zip", own))
