"""The exceptions of AArch64 that the engine leaves out: misaligned pc and sp, floating point that
CPACR_EL1 turns off, and illegal execution state (Arm ARM D1.8, D1.11.4, D1.16).

The engine calls its own functions by way of a table of addresses. Four of them have ours in their
places:

- *Which level is floating point trapped to?* The engine does all else about it.
- *Which block comes next?* A block is looked up by pc and flags. A misaligned pc has none. That sp
  is misaligned, or the state illegal, are flags of ours.
- *Translate a block that is not there yet.* In illegal state there is none, nor one that begins
  with an access by a misaligned sp: what asks for it raises the exception, each time.
- *Translate these instructions.* Blocks that follow each other are linked, and the flags not looked
  at again. So a block ends unlinked behind what may misalign sp or align it again, which adding a
  multiple of 16 cannot; and with a misaligned sp it has one instruction.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import c_uint64
from functools import cache

from hypervisor.cpu import aarch64_env as env
from hypervisor.cpu import library
from hypervisor.cpu.library import EngineError

_REPLACED = {
    "trapped_level": "fp_exception_el_aarch64",
    "next_block": "cpu_get_tb_cpu_state_aarch64",
    "new_block": "tb_gen_code_aarch64",
    "translate": "translator_loop_aarch64",
}
"""Functions of ours, and the engine's whose places they take."""
FUNCTIONS = (*_REPLACED, "translate_instruction")

_Operations = c_uint64 * 7
_OPERATIONS, _TRANSLATE_INSTRUCTION, _PUT_PC = "aarch64_translator_ops_aarch64", 4, 6
"""The engine's TranslatorOps, and which of its functions are which."""

_NUMBERS = {
    "IL": 1 << 20,  # PSTATE
    "SA": 1 << 3,  # SCTLR_EL1
    "SA0": 1 << 4,
    # Exception classes and a bit of ESR_EL1
    "ILLEGAL_STATE": 0x0E,
    "PC_ALIGNMENT": 0x22,
    "SP_ALIGNMENT": 0x26,
    "LONG_INSTRUCTION": 1 << 25,
    # Flags of a block: two that the engine has no use for, and some of its own
    "ILLEGAL": 1 << 18,
    "SP_MISALIGNED": 1 << 19,
    "MARKS": 3 << 18,
    "FP_TRAPPED": 3 << 22,
    "STEPPED": 1 << 30,
    # Offsets in CPUState, TranslationBlock and DisasContext
    "ENV_POINTER": 296,
    "BLOCK_FLAGS": 16,
    "IS_JMP": 24,
    "INSTRUCTION": 64,
    # How a block goes on: with what follows, or where pc says
    "DISAS_TOO_MANY": 1,
    "DISAS_JUMP": 3,
    "VECTOR_REGISTER": 1 << 26,  # in a load or store
}

_CHANGES_OF_SP = (
    (0xBFC0_03FF, 0x9100_03FF, 0xF << 10),  # add, sub: sp, sp, #imm
    (0xBFC0_03FF, 0x9140_03FF, 0),  # sp, sp, #imm, lsl #12
    (0x3F80_001F, 0x1100_001F, True),  # sp, xN, #imm
    (0x3F20_001F, 0x0B20_001F, True),  # sp, xN, xM
    (0x7F80_001F, 0x1200_001F, True),  # and: sp, xN, #imm
    (0x7F80_001F, 0x3200_001F, True),  # orr
    (0x7F80_001F, 0x5200_001F, True),  # eor
    (0x3B20_07E0, 0x3800_07E0, 0xF << 12),  # ldr, str: [sp], #imm and [sp, #imm]!
    (0xFE80_03E0, 0xA880_03E0, 1 << 15),  # ldp, stp: x registers
    (0xFE80_03E0, 0x6C80_03E0, 1 << 15),  # d
    (0xFE80_03E0, 0xAC80_03E0, 0),  # q
    (0x3A80_03E0, 0x2880_03E0, 3 << 15),  # w, s
    (0xBE80_03E0, 0x0C80_03E0, True),  # ld1 to ld4, st1 to st4: [sp], ...
    (0xFFFF_F0FF, 0xD500_40BF, True),  # msr spsel, #imm
)
"""Instructions that set sp, as (mask, value, bits): the first that is met says that sp's alignment
may change, always or where one of the bits is set (Arm ARM C4.1). Those not here end their block
anyhow."""

_ACCESSES_BY_SP = (
    (0x3B00_0000, 0x1800_0000, 0),  # ldr: literal
    (0xFFC0_0000, 0xF980_0000, 0),  # prfm
    (0xFFE0_0C00, 0xF880_0000, 0),
    (0xFFE0_0C00, 0xF8A0_0800, 0),
    (0x0A00_03E0, 0x0800_03E0, True),
)
"""Likewise: loads and stores whose base is sp. Encodings that nobody uses are not told apart."""

_Rules = tuple[tuple[int, int, int | bool], ...]

IR = """
define internal i32 @get32(ptr %base, i64 %at) alwaysinline {{
  %p = getelementptr i8, ptr %base, i64 %at
  %v = load i32, ptr %p
  ret i32 %v
}}

define i32 @trapped_level(ptr %env, i32 %level) {{
  %cpacr = call i64 @get(ptr %env, i64 {CPACR_EL1})
  %shifted = lshr i64 %cpacr, 20
  %is_user = icmp eq i32 %level, 0
  %needed = select i1 %is_user, i64 3, i64 1
  %given = and i64 %shifted, %needed
  %lacks = icmp ne i64 %given, %needed
  %below = icmp ult i32 %level, 2
  %trapped = and i1 %lacks, %below
  %target = zext i1 %trapped to i32
  ret i32 %target
}}

; Asked at every jump to an address that is not known beforehand. The rare cases are apart, so that
; the others save no registers.
define void @next_block(ptr %env, ptr %pc_to, ptr %base_to, ptr %flags_to) {{
  %pc = call i64 @get(ptr %env, i64 {PC})
  %sp = call i64 @get(ptr %env, i64 {SP})
  %pstate = call i32 @get32(ptr %env, i64 {PSTATE})
  %flags = call i32 @get32(ptr %env, i64 {HFLAGS})
  %pc_skew = and i64 %pc, 3
  %sp_skew = and i64 %sp, 15
  %skew = or i64 %pc_skew, %sp_skew
  %skewed = trunc i64 %skew to i32
  %il = and i32 %pstate, {IL}
  %stepped = and i32 %flags, {STEPPED}
  %state = or i32 %il, %stepped
  %odd = or i32 %skewed, %state
  %is_odd = icmp ne i32 %odd, 0
  br i1 %is_odd, label %ask, label %plain, !prof !0
plain:
  store i64 %pc, ptr %pc_to
  store i64 0, ptr %base_to
  store i32 %flags, ptr %flags_to
  ret void
ask:
  musttail call void @next_odd_block(ptr %env, ptr %pc_to, ptr %base_to, ptr %flags_to)
  ret void
}}

define internal void @next_odd_block(ptr %env, ptr %pc_to, ptr %base_to, ptr %flags_to) noinline {{
  %engine = inttoptr i64 {cpu_get_tb_cpu_state} to ptr
  call void %engine(ptr %env, ptr %pc_to, ptr %base_to, ptr %flags_to)
  %pc = load i64, ptr %pc_to
  %pc_skew = and i64 %pc, 3
  %elsewhere = icmp ne i64 %pc_skew, 0
  br i1 %elsewhere, label %misaligned_pc, label %mark
misaligned_pc:
  call void @put(ptr %env, i64 {FAR_EL1}, i64 %pc)
  call void @raise(ptr %env, i32 {PC_ALIGNMENT})
  ret void
mark:
  %pstate = call i64 @get(ptr %env, i64 {PSTATE})
  %il = and i64 %pstate, {IL}
  %is_illegal = icmp ne i64 %il, 0
  %illegal = select i1 %is_illegal, i32 {ILLEGAL}, i32 0
  %level = and i64 %pstate, 12
  %is_user = icmp eq i64 %level, 0
  %bit = select i1 %is_user, i64 {SA0}, i64 {SA}
  %sctlr = call i64 @get(ptr %env, i64 {SCTLR_EL1})
  %checked = and i64 %sctlr, %bit
  %is_checked = icmp ne i64 %checked, 0
  %sp = call i64 @get(ptr %env, i64 {SP})
  %sp_skew = and i64 %sp, 15
  %skewed = icmp ne i64 %sp_skew, 0
  %is_misaligned = and i1 %is_checked, %skewed
  %misaligned = select i1 %is_misaligned, i32 {SP_MISALIGNED}, i32 0
  %ours = or i32 %illegal, %misaligned
  %known = load i32, ptr %flags_to
  %all = or i32 %known, %ours
  store i32 %all, ptr %flags_to
  ret void
}}

define internal void @raise(ptr %env, i32 %class) {{
  %syndrome = shl i32 %class, 26
  %long = or i32 %syndrome, {LONG_INSTRUCTION}
  %engine = inttoptr i64 {raise_exception} to ptr
  call void %engine(ptr %env, i32 {STATE_FAULT}, i32 %long, i32 1)
  unreachable
}}

define ptr @new_block(ptr %cpu, i64 %pc, i64 %base, i32 %flags, i32 %how) {{
  %marks = and i32 %flags, {MARKS}
  %is_marked = icmp ne i32 %marks, 0
  br i1 %is_marked, label %marked, label %ordinary, !prof !0
ordinary:
  %engine = inttoptr i64 {tb_gen_code} to ptr
  %block = call ptr %engine(ptr %cpu, i64 %pc, i64 %base, i32 %flags, i32 %how)
  ret ptr %block
marked:
  %env = call ptr @pointer(ptr %cpu, i64 {ENV_POINTER})
  %host_pointer = alloca ptr
  store ptr null, ptr %host_pointer
  %hostp = inttoptr i64 {hostp} to ptr
  %ignored = call i64 %hostp(ptr %env, i64 %pc, ptr %host_pointer)
  %host = load ptr, ptr %host_pointer
  %is_ram = icmp ne ptr %host, null
  br i1 %is_ram, label %fetched, label %ordinary ; where an instruction abort goes before
fetched:
  %illegal = and i32 %marks, {ILLEGAL}
  %is_illegal = icmp ne i32 %illegal, 0
  br i1 %is_illegal, label %illegal_state, label %read
illegal_state:
  call void @raise(ptr %env, i32 {ILLEGAL_STATE})
  ret ptr null
read:
  %word = load i32, ptr %host
  %accesses = call i1 @accesses_by_sp(i32 %word)
  %vector = and i32 %word, {VECTOR_REGISTER}
  %is_vector = icmp ne i32 %vector, 0
  %fp = and i32 %flags, {FP_TRAPPED}
  %fp_trapped = icmp ne i32 %fp, 0
  %traps_first = and i1 %is_vector, %fp_trapped
  %let = xor i1 %traps_first, true
  %fails = and i1 %accesses, %let
  br i1 %fails, label %misaligned_sp, label %ordinary
misaligned_sp:
  call void @raise(ptr %env, i32 {SP_ALIGNMENT})
  ret ptr null
}}

define void @translate(ptr %given, ptr %context, ptr %cpu, ptr %block, i32 %limit) {{
  %flags = call i32 @get32(ptr %block, i64 {BLOCK_FLAGS})
  %misaligned = and i32 %flags, {SP_MISALIGNED}
  %is_misaligned = icmp ne i32 %misaligned, 0
  %most = select i1 %is_misaligned, i32 1, i32 %limit
  %ours = inttoptr i64 {operations} to ptr
  %engine = inttoptr i64 {translator_loop} to ptr
  call void %engine(ptr %ours, ptr %context, ptr %cpu, ptr %block, i32 %most)
  ret void
}}

define void @translate_instruction(ptr %context, ptr %cpu) {{
  %engine = inttoptr i64 {translate_insn} to ptr
  call void %engine(ptr %context, ptr %cpu)
  %next = call i32 @get32(ptr %context, i64 {IS_JMP})
  %goes_on = icmp ule i32 %next, {DISAS_TOO_MANY}
  br i1 %goes_on, label %look, label %done
look:
  %word = call i32 @get32(ptr %context, i64 {INSTRUCTION})
  %may = call i1 @may_misalign_sp(i32 %word)
  br i1 %may, label %end, label %done, !prof !0
end:
  %put_pc = inttoptr i64 {pc_sync} to ptr
  call void %put_pc(ptr %context, ptr %cpu)
  %at = getelementptr i8, ptr %context, i64 {IS_JMP}
  store i32 {DISAS_JUMP}, ptr %at
  ret void
done:
  ret void
}}
"""


def rules() -> str:
    """What IR calls of the tables above."""
    return _decide("may_misalign_sp", _CHANGES_OF_SP) + _decide("accesses_by_sp", _ACCESSES_BY_SP)


def words() -> Mapping[str, int]:
    """What IR names: addresses and numbers."""
    names = (*_REPLACED.values(), "raise_exception_aarch64")
    found = {name.removesuffix("_aarch64"): _function(name) for name in names}
    operations = _engines_operations()
    found |= {"translate_insn": operations[_TRANSLATE_INSTRUCTION]}
    found |= {"pc_sync": operations[_PUT_PC], "operations": ctypes.addressof(_operations())}
    for name in ("CPACR_EL1", "SCTLR_EL1", "FAR_EL1", "SP", "HFLAGS", "STATE_FAULT"):
        found[name] = getattr(env, name)
    return found | _NUMBERS


def interpose(native: Mapping[str, int]) -> None:
    """Put the compiled functions `native` in the engine's places, once in a process."""
    ours = _operations()
    ctypes.memmove(ours, _engines_operations(), ctypes.sizeof(ours))
    ours[_TRANSLATE_INSTRUCTION] = native["translate_instruction"]
    for name, replaced in _REPLACED.items():
        places = library.places_of(_function(replaced))
        if len(places) != 1:
            raise EngineError(f"{library.wheel()} calls {replaced} in a way that is not known")
        c_uint64.from_address(places[0]).value = native[name]


@cache
def _operations() -> ctypes.Array[c_uint64]:
    """As the engine's, with a function of ours; lives as long as the process."""
    return _Operations()


def _engines_operations() -> ctypes.Array[c_uint64]:
    try:
        return _Operations.in_dll(library.load(), _OPERATIONS)
    except ValueError:
        raise EngineError(f"{library.wheel()} does not export {_OPERATIONS}") from None


def _function(name: str) -> int:
    return library.address_of(library.declare(name, None))


def _decide(name: str, rules: _Rules) -> str:
    """A function in IR: what the first rule says that the instruction meets."""
    lines = [f"define internal i1 @{name}(i32 %word) {{{{"]
    answer = "false"
    for number, (mask, value, bits) in reversed(list(enumerate(rules))):
        lines += [
            f"  %masked{number} = and i32 %word, {mask}",
            f"  %meets{number} = icmp eq i32 %masked{number}, {value}",
        ]
        if bits is True:
            says = "true"
        else:
            says = f"%says{number}"
            lines += [
                f"  %bits{number} = and i32 %word, {bits}",
                f"  {says} = icmp ne i32 %bits{number}, 0",
            ]
        lines.append(f"  %rule{number} = select i1 %meets{number}, i1 {says}, i1 {answer}")
        answer = f"%rule{number}"
    return "\n".join([*lines, f"  ret i1 {answer}", "}}", ""])
