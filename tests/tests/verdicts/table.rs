//! Behaviours, one a row: what a frame meets, and what becomes of it. The rows are in `rows_*.rs`; here is how they are written
//! down and checked.

use lb_common::table::BucketState;
use lb_common::verdict::{Note, Reason};
use rollcall_tests::netns::in_own_netns;
use rollcall_tests::verdicts::{Fate, Kernel, Outcome, Setting};

use crate::frames::OWN_MAC;
use crate::scene::{Scene, feed_both, fill};
use crate::{rows_icmp, rows_ip, rows_link, rows_rules};

type Change = Box<dyn Fn(&mut Setting)>;
type Stamp = Box<dyn Fn(&Setting) -> Note>;

/// One behaviour.
pub(crate) struct Row {
    name: String,
    frame: Vec<u8>,
    changes: Vec<Change>,
    expected: Expected,
}

struct Expected {
    fate: Fate,
    reason: Reason,
    rule: u8,
    note: Stamp,
    frame: Vec<u8>,
}

/// It goes on, with this interface's own MAC address.
pub(crate) fn passes(name: impl Into<String>, frame: Vec<u8>, reason: Reason) -> Row {
    let out = [&OWN_MAC[..], &frame[6..]].concat();
    Row::new(name, frame, Fate::Passed, reason, out)
}

/// It goes on as it came.
pub(crate) fn untouched(name: impl Into<String>, frame: Vec<u8>, reason: Reason) -> Row {
    let out = frame.clone();
    Row::new(name, frame, Fate::Passed, reason, out)
}

/// It ends here.
pub(crate) fn drops(name: impl Into<String>, frame: Vec<u8>, reason: Reason) -> Row {
    let out = frame.clone();
    Row::new(name, frame, Fate::Dropped, reason, out)
}

/// It becomes its own answer.
pub(crate) fn answers(name: impl Into<String>, frame: Vec<u8>, reason: Reason, out: Vec<u8>) -> Row {
    Row::new(name, frame, Fate::Sent, reason, out)
}

impl Row {
    fn new(name: impl Into<String>, frame: Vec<u8>, fate: Fate, reason: Reason, out: Vec<u8>) -> Self {
        let expected = Expected { fate, reason, rule: 0, note: Box::new(|_| Note::None), frame: out };
        Self { name: name.into(), frame, changes: Vec::new(), expected }
    }

    /// Counted under this rule.
    pub(crate) fn under(mut self, rule: u8) -> Self {
        self.expected.rule = rule;
        self
    }

    /// In a setting that differs from `Scene::setting` so.
    pub(crate) fn when(mut self, change: impl Fn(&mut Setting) + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// With all buckets in this state.
    pub(crate) fn all(self, state: BucketState) -> Self {
        self.when(move |setting| fill(setting, state))
    }

    /// With all buckets this node's.
    pub(crate) fn mine(self) -> Self {
        self.all(BucketState::Mine)
    }

    /// After the lease.
    pub(crate) fn expired(self) -> Self {
        self.when(|setting| setting.lease = false)
    }

    /// It leaves this in the maps.
    pub(crate) fn stamps(mut self, note: impl Fn(&Setting) -> Note + 'static) -> Self {
        self.expected.note = Box::new(note);
        self
    }

    fn setting(&self, base: &Setting) -> Setting {
        let mut setting = base.clone();
        for change in &self.changes {
            change(&mut setting);
        }
        setting
    }

    /// What is not as it should be.
    fn check(&self, kernel: &mut Kernel, setting: &Setting) -> Option<String> {
        let Expected { fate, reason, rule, ref note, ref frame } = self.expected;
        let outcome = feed_both(kernel, setting, &self.frame);
        let expected = Outcome { fate, reason, rule, note: note(setting), frame: frame.clone() };
        (outcome != expected).then(|| format!("{}: {outcome:02x?}, not {expected:02x?}", self.name))
    }
}

#[test]
fn every_behaviour_has_its_verdict_in_the_kernel_and_on_the_host() {
    in_own_netns(|| {
        let base = Scene::new().setting();
        let mut kernels = Kernels(Vec::new());
        let rows = [rows_link::rows(), rows_ip::rows(), rows_rules::rows(), rows_icmp::rows()];
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        let mut wrong = Vec::new();
        for row in &rows {
            let setting = row.setting(&base);
            wrong.extend(row.check(kernels.with(&setting), &setting));
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
        let counted: u64 =
            kernels.0.iter().map(|(_, kernel)| kernel.audit().unwrap().values().sum::<u64>()).sum();
        assert_eq!(counted, rows.len() as u64, "every frame is counted once, and only once");
        println!("{counted} behaviours in {} programs", kernels.0.len());
    });
}

/// A loaded program for each configuration that the rows want.
struct Kernels(Vec<(Setting, Kernel)>);

impl Kernels {
    fn with(&mut self, setting: &Setting) -> &mut Kernel {
        let same =
            |loaded: &Setting| loaded.config == setting.config && loaded.port_lists == setting.port_lists;
        let place = self.0.iter().position(|(loaded, _)| same(loaded)).unwrap_or_else(|| {
            self.0.push((setting.clone(), Kernel::load(setting).unwrap()));
            self.0.len() - 1
        });
        let kernel = &mut self.0[place].1;
        kernel.apply(setting).unwrap();
        kernel
    }
}
