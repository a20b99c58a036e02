"""What a verifier answers is believed in nothing, and the organiser's faults are told apart from the archive's."""

import pytest

from facesr.leaderboard import sandbox
from facesr.leaderboard.facts import are_facts, facts_of
from facesr.leaderboard.sandbox import OrganiserError, VerifyLimits, verify_apart
from facesr.png import read_png
from tests.leaderboard.sandboxes import (  # noqa: F401
    BOTH_WAYS,
    PLAIN,
    Desk,
    a_desk,
    another_program,
    digest_of,
    lines,
    whether_isolated,
)
from tests.submission.conftest import bench  # noqa: F401


@PLAIN
class TestHostileAnswers:
    """The other process was taken over and says what it likes."""

    def answers(self, desk: Desk, instead, *, cut: int = 0, more: bytes = b"", facts=None, code: int = 0) -> str:
        honest = facts_of(desk.bench.manifest, is_synthetic=False)
        head = lines({"answer": "verified", "facts": {**honest, **(facts or {})}})
        body = f"os.write(1, bytes(3 * 16 * 24 * 3 - {cut}) + {more!r})\n"
        instead(f"{head}{body}sys.exit({code})")
        return desk.refused()

    def test_as_many_pixels_as_needed_pass(self, desk, isolated, instead):
        facts = facts_of(desk.bench.manifest, is_synthetic=False)
        instead(lines({"answer": "verified", "facts": facts}) + "os.write(1, bytes(3 * 16 * 24 * 3))")
        assert desk.verify().ids == ("301", "302", "303")
        assert not read_png(desk.out / "303.png").any()

    @pytest.mark.parametrize("what", [{"cut": 1}, {"more": b"x"}, {"code": 1}])
    def test_too_few_or_many_pixels_or_a_bad_end(self, desk, isolated, instead, what):
        assert "makes the verifier fail" in self.answers(desk, instead, **what)

    @pytest.mark.parametrize(
        "facts",
        [
            {"team": "<script>"},
            {"team": "x" * 65},
            {"model": "\x1b[2J"},
            {"loss_judges": "builtin"},
            {"loss_judges": ["a"] * 65},
            {"seconds": -1},
            {"seconds": True},
            {"kimg": "1"},
            {"guard_replaced": 10**9},
            {"num_parameters": 0},
            {"extra": 1},
            {"weights_sha256": "g" * 64},
        ],
    )
    def test_facts_that_no_manifest_has(self, desk, isolated, facts):
        honest = facts_of(desk.bench.manifest, is_synthetic=False)
        assert are_facts(honest) and not are_facts({**honest, **facts})

    def test_hostile_facts_are_refused(self, desk, isolated, instead):
        assert "makes the verifier fail" in self.answers(desk, instead, facts={"team": "<script>"})

    @pytest.mark.parametrize("text", ["", "[1]\n", "{\n", '"refused"\n', "[" * 100_000 + "\n", "9" * 9999 + "\n"])
    def test_nonsense(self, desk, isolated, instead, text):
        long = f"sys.stdout.write({text[:1]!r} * {len(text) - 1} + {text[-1:]!r})"
        instead(long if len(text) > 50 else f"sys.stdout.write({text!r})")
        assert "makes the verifier fail" in desk.refused()

    def test_the_digest_is_that_of_the_pixels(self, desk, isolated, instead):
        facts = facts_of(desk.bench.manifest, is_synthetic=False)
        found = set()
        for value in (b"\0", b"\1"):
            instead(lines({"answer": "verified", "facts": facts}) + f"os.write(1, bytes(3455) + {value!r})")
            verified = desk.verify()
            assert verified.pixels_sha256 == digest_of(desk.out)
            found.add(verified.pixels_sha256)
            for path in desk.out.iterdir():
                path.unlink()
        assert len(found) == 2

    def test_a_sentence_is_cut_and_cleaned(self, desk, isolated, instead):
        words = f"\x1b[31m{desk.bench.low} {desk.bench.root / 'secret-place.zip'} " + "x" * 1000
        instead(lines({"answer": "refused", "sentence": words}))
        sentence = desk.refused()
        assert sentence.startswith("\\x1b[31mthe pictures that were given out ")

    def test_a_crash_counts_against_the_archive_where_the_machine_is_sound(self, desk, isolated, instead):
        instead("os.abort()")
        assert desk.refused() == "the archive makes the verifier fail; send plain PNG files, packed by submit.py."


class TestOrganisersFaults:
    def fault(self, desk: Desk, *words: str, limits: VerifyLimits | None = None) -> None:
        with pytest.raises(OrganiserError) as caught:
            desk.verify(limits=limits)
        for word in words:
            assert word in str(caught.value)

    @PLAIN
    def test_low_pictures_are_missing(self, desk, isolated):
        for path in desk.bench.low.iterdir():
            path.unlink()
        self.fault(desk, "low-resolution pictures", "holds no PNG files")

    @PLAIN
    def test_archive_is_missing(self, desk, isolated, tmp_path):
        with pytest.raises(OrganiserError, match="cannot be read"):
            verify_apart(tmp_path / "none.zip", desk.bench.low, desk.bench.protocol, desk.out)

    @PLAIN
    def test_folder_is_not_empty(self, desk, isolated):
        (desk.out / "mine.txt").write_text("keep")
        self.fault(desk, "no empty folder")
        assert (desk.out / "mine.txt").read_text() == "keep"

    @BOTH_WAYS
    def test_the_installation_is_broken(self, desk, isolated, monkeypatch):
        monkeypatch.setattr(sandbox, "_PROGRAM", ("-I", "-m", "facesr.leaderboard.gone"))
        self.fault(desk, "cannot work on this machine", "gone")
        desk.nothing_left()

    @PLAIN
    def test_killed_from_outside(self, desk, isolated, instead):
        instead("os.kill(os.getpid(), 9)")
        self.fault(desk, "killed from outside")

    @PLAIN
    def test_the_disk_is_full(self, desk, isolated, monkeypatch):
        def full(path):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("facesr.png.whole_file", full)
        self.fault(desk, "cannot be kept", "No space left")
        desk.nothing_left()

    @PLAIN
    def test_a_sandbox_is_asked_for_and_is_not_there(self, desk, isolated):
        self.fault(desk, "bubblewrap is not installed", limits=VerifyLimits(needs_isolation=True))
