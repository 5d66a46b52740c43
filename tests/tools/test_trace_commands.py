"""`hypervisor run --trace` and `hypervisor trace`."""

import sqlite3

import pytest


@pytest.fixture
def trace(folder, command):
    arguments = ("--send", "q", "--trace", "all", "--trace-to", "run.hvt")
    assert command("run", "board.yaml", *arguments).code == 0
    return "run.hvt"


def test_run_prints_events_on_standard_error(folder, command):
    result = command("run", "board.yaml", "--send", "q", "--trace", "mmio:uart0.THR")

    assert "mmio uart0.THR <- 0x67 (1 bytes)\n" in result.err
    assert "LSR" not in result.err


def test_trace_is_shown(trace, command):
    result = command("trace", "show", trace, "--events", "mmio:uart0.THR", "--limit", "2")

    assert [line.split(" ", 1)[1] for line in result.out.splitlines()] == [
        "mmio uart0.THR <- 0x67 (1 bytes)",
        "mmio uart0.THR <- 0x75 (1 bytes)",
    ]


def test_trace_is_shown_between_times(trace, command):
    all_of_it = command("trace", "show", trace).out
    nothing = command("trace", "show", trace, "--from", "5s").out
    early = command("trace", "show", trace, "--to", "100ns").out

    assert nothing == ""
    assert 0 < len(early) < len(all_of_it)


def test_trace_is_filtered_into_every_form(trace, folder, command):
    for name in ("small.hvt", "small.txt", "small.pftrace"):
        result = command("trace", "filter", trace, name, "--events", "mmio:uart0.THR")

        assert result.out.startswith(f"{name}: 13 of ")
    assert (folder / "small.txt").read_text().count("\n") == 13
    assert command("trace", "show", "small.hvt").out.count("\n") == 13


def test_equal_runs_have_equal_traces(trace, command):
    command("run", "board.yaml", "--send", "q", "--trace", "all", "--trace-to", "again.hvt")

    result = command("trace", "diff", trace, "again.hvt")

    assert (result.code, result.out.partition(":")[0]) == (0, "the traces are the same")


def test_first_difference_of_two_runs_is_shown(trace, command):
    arguments = ("--send", "xq", "--trace", "all", "--trace-to", "other.hvt")
    command("run", "board.yaml", *arguments)

    result = command("trace", "diff", trace, "other.hvt")

    assert result.code == 1
    assert "- " in result.out
    assert "mmio uart0.RBR -> 0x71 (1 bytes)" in result.out
    assert "mmio uart0.RBR -> 0x78 (1 bytes)" in result.out


def test_query_is_answered(trace, command):
    query = "SELECT register, count(*) AS n FROM mmio WHERE is_write GROUP BY register ORDER BY n"
    result = command("trace", "sql", trace, query)

    assert result.out == "register  n\nFINISHER  1\nTHR       13\n"


def test_tables_are_listed_and_the_database_kept(trace, folder, command):
    result = command("trace", "sql", trace, "--save", "run.db")

    assert "mmio    n, time, device, register" in result.out
    with sqlite3.connect(folder / "run.db") as database:
        assert database.execute("SELECT count(*) FROM mmio").fetchone()[0] > 13


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("show", "board.yaml"), 3, "board.yaml is not a trace of this program's"),
        (("show", "none.hvt"), 3, "none.hvt cannot be read: No such file"),
        (("sql", "run.hvt", "SELECT * FROM absent"), 2, "no such table: absent"),
        (("sql", "run.hvt", "--save", "run.hvt"), 2, "run.hvt exists already"),
        (("show", "run.hvt", "--events", "mimo"), 2, "did you mean 'mmio'?"),
        (("show", "run.hvt", "--from", "soon"), 2, "'soon' is not a time"),
        (("filter", "run.hvt", "run.hvt"), 2, "is the trace itself"),
        (("filter", "run.hvt", "no/run.txt"), 3, "cannot be written"),
    ],
)
def test_bad_input_is_a_sentence(trace, command, arguments, code, sentence):
    result = command("trace", *arguments)

    assert result.code == code
    assert sentence in result.err
    assert "Traceback" not in result.err


def test_truncated_trace_is_shown_as_far_as_it_is_whole(trace, folder, command):
    data = (folder / trace).read_bytes()
    (folder / trace).write_bytes(data[:-8])

    result = command("trace", "show", trace)

    assert result.code == 3
    assert "uart0.THR" in result.out
    assert "ends too early, after" in result.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--trace", "mimo"), "did you mean 'mmio'?"),
        (("--trace-to", "run.hvt"), "needs --trace"),
    ],
)
def test_run_refuses_what_cannot_be_traced(folder, command, arguments, sentence):
    result = command("run", "board.yaml", *arguments)

    assert result.code == 2
    assert sentence in result.err


def test_wrong_filter_in_a_description_is_said_with_its_place(folder, command):
    with (folder / "board.yaml").open("a") as file:
        file.write("trace:\n  - {events: mimo}\n")

    result = command("check", "board.yaml")

    assert result.code == 2
    assert "board.yaml:12:14: trace.0.events: no events of kind 'mimo'" in result.err
