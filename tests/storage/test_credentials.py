"""Keys and endpoints come from the environment and the usual files, and never half from each."""

import pytest

from textual_inversion.storage import credentials


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".go-bcecli").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = K1\naws_secret_access_key = S1\n"
        "[work]\naws_access_key_id=K2\naws_secret_access_key=S2%\naws_session_token=T2\n"
    )
    (tmp_path / ".aws/config").write_text(
        "[default]\nregion = eu-west-1\n[profile work]\nregion = cn-north-1\nendpoint_url = http://10.0.0.1:9000\n"
    )
    (tmp_path / ".go-bcecli/credentials").write_text("[Defaults]\nAk = BK\nSk = BS\n")
    return tmp_path


def test_the_files_of_amazons_tools_are_read(home):
    keys = {"aws_access_key_id": "K1", "aws_secret_access_key": "S1"}
    assert credentials.s3_settings({}) == {**keys, "region": "eu-west-1"}
    found = credentials.s3_settings({"AWS_PROFILE": "work"})
    assert found["aws_secret_access_key"] == "S2%" and found["aws_session_token"] == "T2"
    assert found["region"] == "cn-north-1" and found["endpoint"] == "http://10.0.0.1:9000"
    assert credentials.s3_endpoint(found, {}) == "http://10.0.0.1:9000"


def test_the_environment_wins_and_pairs_are_not_mixed(home):
    found = credentials.s3_settings({"AWS_ACCESS_KEY_ID": "E", "AWS_REGION": "r", "AWS_ENDPOINT_URL": "u"})
    assert found == {}
    assert not credentials.s3_settings({"AWS_WEB_IDENTITY_TOKEN_FILE": "t"}).keys() & {"aws_access_key_id"}
    bos = credentials.bos_settings({"BCE_ACCESS_KEY_ID": "only half"})
    assert (bos["access_key_id"], bos["secret_access_key"]) == ("BK", "BS")


def test_baidus_endpoint_follows_its_region(home):
    assert credentials.bos_settings({})["endpoint"] == "https://s3.bj.bcebos.com"
    assert credentials.bos_settings({"BCE_REGION": "gz"})["endpoint"] == "https://s3.gz.bcebos.com"
    assert credentials.bos_settings({"BOS_ENDPOINT": "s3.su.bcebos.com"})["endpoint"] == "https://s3.su.bcebos.com"


@pytest.mark.parametrize("content", [b"no section\n", b"\xff\xfe", b"[default\n"])
def test_a_broken_file_is_as_good_as_none(home, content):
    (home / ".aws/credentials").write_bytes(content)
    assert "aws_access_key_id" not in credentials.s3_settings({})
