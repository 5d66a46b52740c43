"""Oclgrind's log in short."""

from __future__ import annotations

from pathlib import Path

from gpu.worker.reports import MOST, Reports, findings


def report(kernel: str, line: int, address: int, item: int) -> str:
    return (
        f"\nInvalid write of size 4 at global memory address {address:#x}\n"
        f"\tKernel: {kernel}\n"
        f"\tEntity: Global({item},0,0) Local(0,0,0) Group({item},0,0)\n"
        "\t  store i32 1, i32 addrspace(1)* %arrayidx, align 4\n"
        f"\tAt line {line} (column 58) of input.cl:\n"
        "\t  (source not available)\n"
    )


RACE = """
Read-write data race at local memory address 0x10
\tKernel: race
\t
\tFirst entity:  Global(3,0,0) Local(1,0,0) Group(1,0,0)
\t  %0 = load i32
\tAt line 3 (column 44) of input.cl:
\t  a[0] += get_global_id(0);
\t
\tSecond entity: Global(2,0,0) Local(0,0,0) Group(1,0,0)
\t  store i32 %conv1
\tAt line 4 (column 1) of input.cl:
\t  a[0] += get_global_id(0);
\t
"""
END = "\nOclgrind: 10000 errors generated - suppressing further errors\n"


def test_reports_that_differ_in_addresses_are_one_finding() -> None:
    log = report("fill", 2, 0x40, 16) + report("fill", 2, 0x44, 17) + report("fill", 3, 0x48, 18)

    found = findings(log)

    assert found == [
        ["fill", "Invalid write of size 4 at global memory, line 2, column 58",
         "address 0x40, work-item (16,0,0)", 2],
        ["fill", "Invalid write of size 4 at global memory, line 3, column 58",
         "address 0x48, work-item (18,0,0)", 1],
    ]  # fmt: skip


def test_race_names_both_work_items() -> None:
    found = findings(RACE + END)

    assert found == [
        ["race", "Read-write data race at local memory, line 3, column 44",
         "address 0x10, work-item (3,0,0), work-item (2,0,0)", 1],
        ["", END.strip(), "", 1],
    ]  # fmt: skip


def test_findings_are_bounded() -> None:
    log = "".join(report("fill", line, 0x40, 16) for line in range(2 * MOST))

    assert len(findings(log)) == MOST


def test_each_report_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(report("one", 1, 0, 0))
    reports = Reports(str(path))

    first = reports.take()
    path.write_text(path.read_text() + report("two", 1, 0, 0))
    second, third = reports.take(), reports.take()

    assert ([each[0] for each in first], [each[0] for each in second]) == (["one"], ["two"])
    assert third == []


def test_runtime_without_a_log_has_no_reports(tmp_path: Path) -> None:
    assert not Reports(str(tmp_path / "none")).exists
