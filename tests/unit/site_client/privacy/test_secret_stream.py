import numpy as np
import pytest
from scipy import stats

from wardround.shared.errors import DataError
from wardround.site_client.privacy.secret_stream import NOISE_FILE, SecretStream, secret_in

SECRET = bytes(range(32))


def test_a_stream_comes_back_under_its_secret_and_name_alone():
    first = SecretStream(SECRET, "a").normal((4, 3))
    assert np.array_equal(first, SecretStream(SECRET, "a").normal((4, 3)))
    assert not np.array_equal(first, SecretStream(SECRET, "b").normal((4, 3)))
    assert not np.array_equal(first, SecretStream(SECRET[::-1], "a").normal((4, 3)))


def test_a_stream_goes_on_and_does_not_repeat_itself():
    stream = SecretStream(SECRET, "a")
    assert not np.array_equal(stream.uniform(5), stream.uniform(5))
    assert stream.seed() != stream.seed()
    assert 0 <= stream.seed() < 2**63


def test_the_numbers_are_uniform_and_normal():
    stream = SecretStream(SECRET, "statistics")
    uniform, normal = stream.uniform(20_000), stream.normal((100, 200))
    assert 0 <= uniform.min() < uniform.max() < 1
    assert normal.shape == (100, 200)
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    assert stats.kstest(normal.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(normal.ravel()[:-1], normal.ravel()[1:])[0, 1]) < 0.02


def test_a_site_makes_its_secret_once_and_keeps_it_to_itself(tmp_path):
    made = secret_in(tmp_path)
    assert len(made) == 32
    assert secret_in(tmp_path) == made
    assert (tmp_path / NOISE_FILE).stat().st_mode & 0o777 == 0o600


def test_secrets_of_two_sites_differ(tmp_path):
    for name in ("ada", "ben"):
        (tmp_path / name).mkdir()
    assert secret_in(tmp_path / "ada") != secret_in(tmp_path / "ben")


def test_a_damaged_secret_is_not_used(tmp_path):
    (tmp_path / NOISE_FILE).write_bytes(b"short")
    with pytest.raises(DataError, match="5 bytes, expected 32"):
        secret_in(tmp_path)
    with pytest.raises(DataError, match="cannot be read or made"):
        secret_in(tmp_path / "nowhere")
