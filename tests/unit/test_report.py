import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from lowtide.core.receipts import BatchLine, Receipt, Share
from lowtide_local.report.figures import duration, share_pct
from lowtide_local.report.files import write_by_rename, write_jsonl
from lowtide_local.report.run_report import BatchStory, Check, DeadReason, RunReport, TierLine
from lowtide_local.report.write import write_receipt, write_report

SHARES = {"batch": Share(tasks=9, cost_usd=Decimal("1.5"), list_cost_usd=Decimal(3))}
RECEIPT = Receipt(
    tasks=10,
    answered=9,
    dead=1,
    duplicates=2,
    cost_usd=Decimal("1.5"),
    list_cost_usd=Decimal(3),
    by_lane=SHARES,
    by_model={"gpt-5-mini": SHARES["batch"]},
)
REPORT = RunReport(
    title="A day",
    receipt=RECEIPT,
    tiers=[TierLine("LOW", 10, 7_230.0, None, 9)],
    batches=[
        BatchStory(
            BatchLine(
                batch_id="b_1", model="gpt-5-mini", requests=10, answered=9, failed=1, status="expired", seconds=86_400
            ),
            "its rest went into the next",
        )
    ],
    dead=[DeadReason("content_refused", 1, "refused by the provider")],
    checks=[Check("Ledger is the sum of receipts", held=True, detail="$1.50 both")],
    finished_at=datetime(2026, 2, 28, 10, 0, tzinfo=UTC),
    versions={"lowtide": "0.1.0"},
)


class Page(HTMLParser):
    """The tags, attributes and text of a page, as a browser would find them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "action", "style"}]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.words.append(data)


def rendered(tmp_path, report):
    write_report(tmp_path / "report.html", report)
    return (tmp_path / "report.html").read_text()


def test_a_manager_reads_what_was_paid_and_what_was_saved(tmp_path):
    text = Page(rendered(tmp_path, REPORT)).text
    assert "Paid $1.5000 At list price $3.0000 Saved $1.5000 Of list price 50.0 %" in text
    assert "10 tasks: 9 answered, 1 dead, 0 cancelled, 2 duplicates" in text
    assert "Batch 9 $1.5000 $3.0000 $1.5000" in text
    assert "LOW 10 2 h 00 min – 9 (90 %)" in text
    assert "b_1 gpt-5-mini 10 9 1 expired 24 h 00 min its rest went into the next" in text
    assert "content_refused 1 refused by the provider" in text
    assert "Finished 2026-02-28 10:00:00 UTC · lowtide 0.1.0" in text


def test_each_check_stands_on_its_own_line_and_one_broken_check_breaks_the_verdict(tmp_path):
    broken = replace(REPORT, checks=[*REPORT.checks, Check("No line billed twice", held=False, detail="2 were")])
    page = Page(rendered(tmp_path, broken))
    assert page.tags.count("li") == 2
    assert "Not everything adds up. ✓ held Ledger is the sum of receipts $1.50 both ✗ did not hold" in page.text
    assert "Everything adds up." in Page(rendered(tmp_path, REPORT)).text


def test_a_run_without_checks_is_not_called_reconciled(tmp_path):
    unchecked = replace(REPORT, checks=[])
    assert not unchecked.reconciled
    assert "Nothing was checked." in Page(rendered(tmp_path, unchecked)).text


def test_the_page_needs_nothing_from_anywhere(tmp_path):
    text = rendered(tmp_path, REPORT)
    page = Page(text)
    assert page.links == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "default-src 'none'" in text
    assert "url(" not in text
    assert "@import" not in text


def test_a_hostile_id_is_text_wherever_it_appears(tmp_path):
    evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"
    hostile = RunReport(
        title=evil,
        receipt=RECEIPT.model_copy(update={"by_model": {evil: Share()}}),
        tiers=[replace(REPORT.tiers[0], tier=evil)],
        batches=[
            BatchStory(
                REPORT.batches[0].batch.model_copy(update={"batch_id": evil, "model": evil, "status": evil}), evil
            )
        ],
        dead=[DeadReason(evil, 1, evil)],
        checks=[Check(evil, held=True, detail=evil)],
        finished_at=REPORT.finished_at,
        versions={evil: evil},
    )
    page = Page(rendered(tmp_path, hostile))
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count("<script>alert(1)</script>") == 14


def test_a_run_of_nothing_still_has_a_page(tmp_path):
    nothing = replace(REPORT, receipt=Receipt(), tiers=[], batches=[], dead=[])
    text = Page(rendered(tmp_path, nothing)).text
    assert "Nothing was batched." in text
    assert "0 tasks" in text


def test_spending_above_list_is_not_shown_as_a_saving(tmp_path):
    dear = RECEIPT.model_copy(update={"cost_usd": Decimal(40), "list_cost_usd": Decimal(20)})
    assert (
        "Spent above list $20.00 Of list price 100.0 %" in Page(rendered(tmp_path, replace(REPORT, receipt=dear))).text
    )


def test_the_receipt_file_carries_batches_and_the_verdict(tmp_path):
    write_receipt(tmp_path / "receipt.json", REPORT)
    document = json.loads((tmp_path / "receipt.json").read_bytes())
    assert document["reconciled"] is True
    assert document["batches"][0]["batch_id"] == "b_1"
    assert document["saved_usd"] == "1.5"


def test_only_all_of_them_is_a_hundred_per_cent():
    assert share_pct(1_999, 2_000).startswith("99")
    assert share_pct(2_000, 2_000).startswith("100")
    assert share_pct(0, 0).startswith("0")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.42, "0.42 s"), (8.13, "8.1 s"), (59.97, "1 min"), (720, "12 min"), (3_590, "1 h 00 min")],
)
def test_a_duration_reads_as_people_say_it(seconds, text):
    assert duration(seconds) == text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "results.jsonl"
    write_by_rename(path, b"old\n")

    def rows():
        yield {"n": 1}
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_jsonl(path, rows())
    assert path.read_bytes() == b"old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_does_not_stop_the_next(tmp_path):
    (tmp_path / ".receipt.json.partial").write_bytes(b"half of a rece")
    write_by_rename(tmp_path / "receipt.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["receipt.json"]


def test_a_row_stays_one_line_even_for_readers_that_split_as_unicode_does(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"text": "one\u2028two\u2029three\u0085four\nfive"}
    assert write_jsonl(path, [row, json.dumps({"n": 2}).encode()]) == 2
    lines = path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [row, {"n": 2}]
