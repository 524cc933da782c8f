"""`upload` to S3, as a server of moto's plays it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.helpers.archive_samples import make_prompt
from tests.helpers.command_line import ROOT, CommandLine
from tests.helpers.made_archives import reply, write_run

BUCKET = "archives"
URL = f"s3://{BUCKET}/team/one"
SECRET = "wJalrXUtnFEMI7MDENGbPxRfiCYEXAMPLEKEY"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint: str) -> Iterator["S3"]:
    s3 = S3(endpoint)
    s3.client.create_bucket(Bucket=BUCKET)
    yield s3
    for key in s3.objects():
        s3.client.delete_object(Bucket=BUCKET, Key=key)
    s3.client.delete_bucket(Bucket=BUCKET)
    s3.client.close()


class S3:
    """The store as another client sees it: boto3."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self.environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SECRET,
        )

    def objects(self) -> dict[str, bytes]:
        listed = self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {
            entry["Key"]: self.client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in listed
        }


@pytest.fixture
def archive(command_line: CommandLine) -> dict[str, bytes]:
    """A run `one`; returns its files as the bucket should have them."""
    folder = command_line.folder / "one"
    prompt = make_prompt(0)
    write_run(folder, [reply(prompt, (3, 1))], [prompt])
    return {f"team/one/{path.name}": path.read_bytes() for path in folder.iterdir()}


def test_a_run_is_sent_once_and_verified(s3: S3, archive: dict[str, bytes], command_line: CommandLine) -> None:
    dry = command_line("upload", "one", URL, "--dry-run", **s3.environment)
    assert dry.stdout.splitlines()[-1].startswith("6 files to upload (")
    assert s3.objects() == {}
    sent = command_line("upload", "one", URL, **s3.environment)
    assert (sent.status, sent.stderr) == (0, "")
    assert s3.objects() == archive
    again = command_line("upload", "one", URL, **s3.environment)
    assert again.stdout == f"0 files uploaded and verified (0.0 kB), 6 already there  {URL}\n"
    changed = archive["team/one/summary.json"][:-1] + b"X"
    s3.client.put_object(Bucket=BUCKET, Key="team/one/summary.json", Body=changed)
    corrupted = command_line("upload", "one", URL, **s3.environment)
    assert corrupted.status == 2
    assert "summary.json differ from the archive's" in corrupted.error
    assert command_line("upload", "one", URL, "--overwrite", **s3.environment).status == 0
    assert s3.objects() == archive


KILLS_ITSELF = f"""
import os, signal, sys
import s3fs
put, calls = s3fs.S3FileSystem.put_file, []
def put_file(*arguments, **options):
    calls.append(arguments)
    if len(calls) == 3:
        os.kill(os.getpid(), {int(signal.SIGKILL)})
    return put(*arguments, **options)
s3fs.S3FileSystem.put_file = put_file
from specdec_bench.share.storage import Storage
Storage.num_workers = 1
from specdec_bench.cli.main import main
main(sys.argv[1:])
"""


def test_a_killed_upload_is_gone_on_with(s3: S3, archive: dict[str, bytes], command_line: CommandLine) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLS_ITSELF, "upload", "one", URL],
        cwd=command_line.folder,
        env={**command_line.environment, **s3.environment, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert s3.objects().keys() == {"team/one/config.yaml", "team/one/prompts.jsonl"}
    resumed = command_line("upload", "one", URL, **s3.environment)
    assert resumed.status == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-1].startswith("4 files uploaded and verified (")
    assert s3.objects() == archive


def test_a_missing_bucket_is_one_line_and_none_is_made(
    s3: S3, archive: dict[str, bytes], command_line: CommandLine
) -> None:
    refused = command_line("upload", "one", "s3://elsewhere/one", **s3.environment)
    assert refused.status == 1
    assert "FileNotFoundError" in refused.error
    assert SECRET not in refused.stderr
    assert [bucket["Name"] for bucket in s3.client.list_buckets()["Buckets"]] == [BUCKET]
    assert Path(command_line.folder / "one" / "manifest.json").is_file()
