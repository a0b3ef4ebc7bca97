//! What the verifier thinks of the programs: far from its limits, so that a kernel that tracks less still takes them.

use std::collections::BTreeSet;

use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use lb_user::dataplane::OBJECT;
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::{Kernel, Setting};

use crate::scene::Scene;

/// The kernel's limit is a million. A sudden rise means that it lost track of something.
const INSTRUCTIONS: u32 = 100_000;
/// The kernel's limit is 512 bytes.
const STACK: u32 = 512;

#[test]
fn the_verifier_looks_at_few_instructions() {
    type Change = fn(&mut Setting);
    const VARIANTS: [(&str, Change); 4] = [
        ("as it is", |_| ()),
        ("observing", |setting| setting.config.observe = 1),
        ("with a precise lease", |setting| setting.config.precise_lease = 1),
        ("with samples", |setting| {
            setting.config.capture_every = 1;
            setting.config.capture_reasons = u64::MAX;
        }),
    ];
    in_own_netns(|| {
        let mut too_many = Vec::new();
        for (name, change) in VARIANTS {
            let mut setting = Scene::new().setting();
            change(&mut setting);
            let mut kernel = Kernel::load(&setting).unwrap();
            for program in ["rollcall", "renew"] {
                // Kernels before 5.16 do not tell.
                let count = kernel.verified_instructions(program).unwrap();
                println!("{program}, {name}: {count:?} verified instructions");
                too_many
                    .extend(count.filter(|&count| count >= INSTRUCTIONS).map(|count| (name, program, count)));
            }
        }
        assert_eq!(too_many, []);
    });
}

#[test]
fn the_programs_fit_the_stack() {
    let mut object = Object::parse(OBJECT).unwrap();
    let text = object.functions.keys().map(|(section, _)| *section).collect();
    // Puts the functions that a program calls behind it.
    object.relocate_calls(&text).unwrap();
    for (name, program) in &object.programs {
        let linked = Linked::of(&object.functions[&program.function_key()].instructions);
        let (own, deepest) = (stack_of(linked.function(0)), linked.deepest(0));
        println!("{name}: {} instructions, {own} bytes of stack, {deepest} with calls", linked.code.len());
        assert!(deepest < STACK, "{name}: {deepest} bytes");
    }
}

/// A program and the functions that it calls, one behind the other.
struct Linked<'a> {
    code: &'a [bpf_insn],
    /// Where each begins, and the end.
    starts: BTreeSet<usize>,
}

impl<'a> Linked<'a> {
    fn of(code: &'a [bpf_insn]) -> Self {
        let called = code.iter().enumerate().filter_map(|(at, instruction)| called(at, instruction));
        Self { code, starts: called.chain([0, code.len()]).collect() }
    }

    fn function(&self, start: usize) -> &'a [bpf_insn] {
        let end = self.starts.range(start + 1..).next();
        &self.code[start..*end.unwrap()]
    }

    /// The stack of a function and of the deepest chain of calls below it, as the kernel adds it up (check_max_stack_depth).
    fn deepest(&self, start: usize) -> u32 {
        let function = self.function(start);
        let callees = function.iter().zip(start..).filter_map(|(instruction, at)| called(at, instruction));
        let below = callees.map(|callee| self.deepest(callee)).max().unwrap_or(0);
        stack_of(function).max(1).next_multiple_of(32) + below
    }
}

/// Which function an instruction calls, if it calls one.
fn called(at: usize, instruction: &bpf_insn) -> Option<usize> {
    const CALL: u8 = 0x85;
    const PSEUDO_CALL: u8 = 1;
    let calls = instruction.code == CALL && instruction.src_reg() == PSEUDO_CALL;
    calls.then(|| (at + 1).checked_add_signed(instruction.imm as isize).unwrap())
}

const FRAME_POINTER: u8 = 10;

/// How far below the frame pointer a function reaches.
fn stack_of(instructions: &[bpf_insn]) -> u32 {
    let from_load_or_store = instructions.iter().filter_map(load_or_store);
    let copies = instructions.iter().enumerate().filter(|(_, instruction)| copies_frame_pointer(instruction));
    let from_copies = copies.map(|(at, copy)| added_next(copy.dst_reg(), &instructions[at + 1..]));
    from_load_or_store.chain(from_copies).map(|offset| offset.min(0).unsigned_abs()).max().unwrap_or(0)
}

/// The offset from the frame pointer at which an instruction loads or stores.
fn load_or_store(instruction: &bpf_insn) -> Option<i32> {
    // Classes of include/uapi/linux/bpf_common.h.
    const LDX: u8 = 1;
    const ST: u8 = 2;
    const STX: u8 = 3;
    let base = match instruction.code & 7 {
        LDX => instruction.src_reg(),
        ST | STX => instruction.dst_reg(),
        _ => return None,
    };
    (base == FRAME_POINTER).then_some(instruction.off.into())
}

fn copies_frame_pointer(instruction: &bpf_insn) -> bool {
    const MOVE_64: u8 = 0xbf;
    instruction.code == MOVE_64 && instruction.src_reg() == FRAME_POINTER
}

/// What is added to a copy of the frame pointer: always by the next instruction that writes the register.
fn added_next(register: u8, rest: &[bpf_insn]) -> i32 {
    const ADD_64_IMMEDIATE: u8 = 0x07;
    const ST_CLASSES: [u8; 2] = [2, 3];
    let writes = |instruction: &&bpf_insn| {
        instruction.dst_reg() == register && !ST_CLASSES.contains(&(instruction.code & 7))
    };
    let next = rest.iter().find(writes).unwrap();
    assert_eq!(next.code, ADD_64_IMMEDIATE, "a use of the frame pointer that this test does not know");
    next.imm
}
