//! The engine for patterns without look-ahead and back references: an automaton, whose time grows with the input and nothing
//! else. Pure.

use regex_automata::meta::{BuildError, Config, Regex};
use regex_syntax::hir::{self, Capture, Class, Hir, Look};

use super::node::{Assertion, Node, Repeat};

/// Compiles a tree for which `Node::is_linear` holds.
pub(super) fn compile(node: &Node) -> Result<Regex, Box<BuildError>> {
    // A whole automaton beforehand is tried for small ones where another crate asks for that feature: it takes five times the time that all
    // the rest takes, and finds nothing sooner.
    let limits =
        Config::new().nfa_size_limit(Some(SIZE_LIMIT)).hybrid_cache_capacity(CACHE_CAPACITY).dfa(false);
    Regex::builder().configure(limits).build_from_hir(&hir_of(node)).map_err(Box::new)
}

fn hir_of(node: &Node) -> Hir {
    match node {
        Node::Empty => Hir::empty(),
        Node::Set(set) => Hir::class(Class::Unicode(set.clone())),
        Node::Concat(nodes) => Hir::concat(nodes.iter().map(hir_of).collect()),
        Node::Alternation(nodes) => Hir::alternation(nodes.iter().map(hir_of).collect()),
        Node::Group(group, node) => Hir::capture(Capture {
            index: u32::try_from(*group).expect("invariant: the parser counts at most 99 groups"),
            name: None,
            sub: Box::new(hir_of(node)),
        }),
        Node::Repeat(Repeat { node, min, max, greedy }) => Hir::repetition(hir::Repetition {
            min: *min,
            max: *max,
            greedy: *greedy,
            sub: Box::new(hir_of(node)),
        }),
        Node::Assertion(Assertion::Start) => Hir::look(Look::Start),
        Node::Assertion(Assertion::End) => Hir::look(Look::End),
        Node::Assertion(Assertion::WordBoundary) => Hir::look(Look::WordAscii),
        Node::Assertion(Assertion::NotWordBoundary) => Hir::look(Look::WordAsciiNegate),
        Node::LookAhead { .. } | Node::BackReference { .. } => {
            unreachable!("invariant: such a tree is not linear")
        }
    }
}

/// Bytes; far more than any sensible pattern takes.
const SIZE_LIMIT: usize = 1 << 20;
/// Bytes for the lazy automaton, for each thread that matches.
const CACHE_CAPACITY: usize = 1 << 20;
