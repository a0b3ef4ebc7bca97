//! The policy, in stories; and what no story may do.

use proptest::prelude::*;

use super::*;

const HOME: &str = "203.0.113.5";
const CAFE: &str = "198.51.100.7";

struct Story {
    logons: Arc<Logons>,
    now: Time,
}

impl Story {
    fn new(change: impl FnOnce(&mut LogonPolicy)) -> Self {
        let mut policy = LogonPolicy { enabled: true, pairs: 4096, networks: 1024, ..LogonPolicy::default() };
        change(&mut policy);
        policy.check().unwrap();
        let logons = Logons::new(policy, ClientPrefixes::default(), HashKey::new(&[5; 16]));
        Self { logons, now: Time::from_nanos(1_000_000_000) }
    }

    fn judge(&self, client: &str, claim: &Claim<'_>, waited: Duration) -> Verdict {
        self.logons.judge(client.parse().unwrap(), claim, waited, self.now)
    }

    /// An attempt that waits as long as it is told to, and what became of it.
    fn attempt(&mut self, client: &str, claim: &Claim<'_>, outcome: Outcome) -> Seen {
        let mut waited = Duration::ZERO;
        loop {
            match self.judge(client, claim, waited) {
                Verdict::Pass(attempt) => {
                    return Seen { waited, refused: None, refuses: attempt.record(outcome, self.now) };
                }
                Verdict::Delay(delay) => {
                    assert!(delay > Duration::ZERO);
                    waited += delay;
                    self.now = self.now + delay;
                }
                Verdict::Refuse { until, whom } => {
                    assert!(until > self.now);
                    return Seen { waited, refused: Some(whom), refuses: None };
                }
            }
        }
    }

    fn fails(&mut self, client: &str, claim: &Claim<'_>) -> Seen {
        self.attempt(client, claim, Outcome::Failed)
    }

    fn succeeds(&mut self, client: &str, claim: &Claim<'_>) -> Seen {
        self.attempt(client, claim, Outcome::Succeeded)
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now + by;
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    waited: Duration,
    /// Who was refused already.
    refused: Option<Refused>,
    /// Who is from then on.
    refuses: Option<Refused>,
}

const PASSED: Seen = Seen { waited: Duration::ZERO, refused: None, refuses: None };

fn waited(seconds: u64) -> Seen {
    Seen { waited: Duration::from_secs(seconds), ..PASSED }
}

fn refused(whom: Refused) -> Seen {
    Seen { refused: Some(whom), ..PASSED }
}

/// OWA's form for this user: no two of these are the same password.
fn user(name: &str) -> Claim<'static> {
    Claim::of_owa_form(Some(format!("username={name}").as_bytes()))
}

#[test]
fn a_pair_is_slowed_and_then_refused() {
    let mut story = Story::new(|_| ());
    for seconds in [0, 0, 0, 0, 1, 2, 4] {
        assert_eq!(story.fails(HOME, &user("ann")), waited(seconds));
    }
    assert_eq!(story.fails(HOME, &user("ann")), Seen { refuses: Some(Refused::Pair), ..waited(8) });
    assert_eq!(story.fails(HOME, &user("ann")), refused(Refused::Pair));
    assert_eq!(story.succeeds(HOME, &user("ANN")), refused(Refused::Pair), "the right password, too");
}

#[test]
fn no_other_user_and_no_other_network_pays_for_a_pair() {
    let mut story = Story::new(|_| ());
    for _ in 0..20 {
        story.fails(HOME, &user("ann"));
    }
    assert_eq!(story.fails(HOME, &user("ann")), refused(Refused::Pair));
    assert_eq!(story.fails(HOME, &user("bob")), PASSED);
    assert_eq!(story.fails(CAFE, &user("ann")), PASSED);
    assert_eq!(story.fails("203.0.113.6", &user("ann")), PASSED);
}

#[test]
fn a_refusal_ends_with_one_attempt_which_decides() {
    let mut story = Story::new(|_| ());
    for _ in 0..8 {
        story.fails(HOME, &user("ann"));
    }
    story.later(LogonPolicy::default().refuse_for);
    assert_eq!(story.fails(HOME, &user("ann")), Seen { refuses: Some(Refused::Pair), ..waited(8) });
    assert_eq!(story.fails(HOME, &user("ann")), refused(Refused::Pair));
    story.later(LogonPolicy::default().refuse_for);
    assert_eq!(story.succeeds(HOME, &user("ann")), waited(8));
    assert_eq!(story.fails(HOME, &user("ann")), PASSED);
}

#[test]
fn a_success_sets_a_pair_back_and_so_does_time() {
    for success in [true, false] {
        let mut story = Story::new(|_| ());
        for _ in 0..6 {
            story.fails(HOME, &user("ann"));
        }
        if success {
            story.succeeds(HOME, &user("ann"));
        } else {
            story.later(LogonPolicy::default().forget_after);
        }
        for seconds in [0, 0, 0, 0, 1] {
            assert_eq!(story.fails(HOME, &user("ann")), waited(seconds), "{success}");
        }
    }
}

#[test]
fn what_proves_nothing_changes_nothing() {
    let mut story = Story::new(|_| ());
    for _ in 0..6 {
        story.fails(HOME, &user("ann"));
    }
    assert_eq!(story.attempt(HOME, &user("ann"), Outcome::Unknown), waited(4));
    assert_eq!(story.attempt(HOME, &user("ann"), Outcome::Unknown), waited(4));
}

#[test]
fn a_phone_with_an_old_password_never_shuts_its_owner_out() {
    let mut story = Story::new(|_| ());
    let phone = Claim::of_authorization(b"Basic YW5uOm9sZA==").unwrap();
    for _ in 0..100 {
        assert_eq!(story.fails(HOME, &phone), PASSED);
    }
    assert_eq!(story.succeeds(HOME, &user("ann")), PASSED);
}

#[test]
fn basic_with_ever_other_passwords_is_guessing() {
    let mut story = Story::new(|_| ());
    for guess in [b"Basic YW5uOmE=", b"Basic YW5uOmI=", b"Basic YW5uOmM=", b"Basic YW5uOmQ="] {
        assert_eq!(story.fails(HOME, &Claim::of_authorization(guess).unwrap()), PASSED);
    }
    let guess = Claim::of_authorization(b"Basic YW5uOmU=").unwrap();
    assert_eq!(story.fails(HOME, &guess), waited(1));
}

#[test]
fn guesses_that_come_at_once_do_not_pass_at_once() {
    let story = Story::new(|_| ());
    let ann = user("ann");
    let verdicts: Vec<_> = (0..1000).map(|_| story.judge(HOME, &ann, Duration::ZERO)).collect();
    let passed =
        |verdicts: &[Verdict]| verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Pass(_))).count();
    assert_eq!(passed(&verdicts), usize::from(LogonPolicy::default().slow_after));
    let longest = LogonPolicy::default().longest_delay;
    let again: Vec<_> = (0..1000).map(|_| story.judge(HOME, &ann, longest)).collect();
    let most = LogonPolicy::default().refuse_after - LogonPolicy::default().slow_after;
    assert_eq!(passed(&again), usize::from(most), "no more than would refuse the pair");
    for verdict in verdicts.into_iter().chain(again) {
        if let Verdict::Pass(attempt) = verdict {
            attempt.record(Outcome::Failed, story.now);
        }
    }
    assert!(matches!(story.judge(HOME, &ann, longest), Verdict::Refuse { whom: Refused::Pair, .. }));
}

#[test]
fn who_has_logged_on_before_may_ask_for_much_at_once() {
    let mut story = Story::new(|_| ());
    story.succeeds(HOME, &user("ann"));
    let ann = user("ann");
    let verdicts: Vec<_> = (0..50).map(|_| story.judge(HOME, &ann, Duration::ZERO)).collect();
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Pass(_))));
}

#[test]
fn who_leaves_before_the_answer_has_tried_unless_he_belongs_there() {
    let mut story = Story::new(|_| ());
    story.succeeds(HOME, &user("bob"));
    let passed = |name: &str, waited| matches!(story.judge(HOME, &user(name), waited), Verdict::Pass(_));
    let longest = LogonPolicy::default().longest_delay;
    let tries = (0..100).filter(|_| passed("ann", longest)).count();
    assert_eq!(tries, usize::from(LogonPolicy::default().refuse_after));
    assert!((0..100).all(|_| passed("bob", Duration::ZERO)));
}

#[test]
fn what_no_server_was_asked_is_no_attempt() {
    let mut story = Story::new(|_| ());
    for _ in 0..100 {
        assert_eq!(story.attempt(HOME, &user("ann"), Outcome::Unknown), PASSED);
    }
}

#[test]
fn a_spray_is_refused_but_not_to_those_who_belong_there() {
    let mut story = Story::new(|_| ());
    story.succeeds(HOME, &user("ann"));
    let spray = (0..60)
        .find(|number| story.fails(HOME, &user(&format!("user{number}"))).refuses == Some(Refused::Network));
    assert!(spray.is_some_and(|number| (20..45).contains(&number)), "{spray:?}");
    assert_eq!(story.fails(HOME, &user("zoe")), refused(Refused::Network));
    assert_eq!(story.fails(HOME, &Claim::of_owa_form(None)), refused(Refused::Network));
    assert_eq!(story.succeeds(HOME, &user("ann")), PASSED);
    assert_eq!(story.fails(CAFE, &user("zoe")), PASSED);
    story.later(LogonPolicy::default().spray_refuse_for);
    assert_eq!(story.fails(HOME, &user("zoe")), PASSED);
}

#[test]
fn many_spellings_of_one_user_are_a_spray() {
    let mut story = Story::new(|_| ());
    let spellings = (0..60).map(|blanks| user(&format!("ann{}", "+".repeat(blanks))));
    let spray =
        spellings.map(|ann| story.fails(HOME, &ann)).any(|seen| seen.refuses == Some(Refused::Network));
    assert!(spray);
}

#[test]
fn one_broken_kerberos_client_shuts_nobody_out() {
    let mut story = Story::new(|_| ());
    let ticket =
        Claim { scheme: super::super::credentials::Scheme::Negotiate, who: Who::Unnamed, secret: None };
    for _ in 0..1000 {
        assert_eq!(story.fails(HOME, &ticket), PASSED);
    }
}

#[test]
fn what_cannot_be_read_is_one_user_of_its_network() {
    let mut story = Story::new(|_| ());
    for number in 0..8 {
        story.fails(HOME, &Claim::of_authorization(format!("NTLM !{number}").as_bytes()).unwrap());
    }
    assert_eq!(story.fails(HOME, &Claim::of_owa_form(Some(b"flags=4"))), refused(Refused::Pair));
    assert_eq!(story.fails(HOME, &user("ann")), PASSED);
}

#[test]
fn nothing_is_counted_until_enabled() {
    let mut story = Story::new(|policy| policy.enabled = false);
    for number in 0..200 {
        assert_eq!(story.fails(HOME, &user("ann")), PASSED);
        assert_eq!(story.fails(HOME, &user(&format!("user{number}"))), PASSED);
    }
}

#[test]
fn who_fills_the_table_does_not_free_a_refused_pair_with_single_failures() {
    let mut story = Story::new(|policy| (policy.pairs, policy.networks) = (64, 64));
    for _ in 0..8 {
        story.fails(HOME, &user("ann"));
    }
    for network in 0..5000_u32 {
        let client = std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(network) << 64).to_string();
        story.fails(&client, &user("bob"));
    }
    assert_eq!(story.fails(HOME, &user("ann")), refused(Refused::Pair));
}

proptest! {
    #[test]
    fn who_never_fails_is_never_kept_waiting(
        steps in prop::collection::vec((0..3_usize, 0..4_usize, 0..120_u64), 1..300),
    ) {
        let mut story = Story::new(|_| ());
        let clients = [HOME, CAFE, "2001:db8::1"];
        for (client, name, seconds) in steps {
            let claim = user(["ann", "bob", "cid", "good"][name]);
            if name == 3 {
                prop_assert_eq!(story.succeeds(clients[client], &claim), PASSED);
            } else {
                story.fails(clients[client], &claim);
            }
            story.later(Duration::from_secs(seconds));
        }
    }

    #[test]
    fn no_pair_ever_gets_more_guesses_than_the_policy_gives(
        waits in prop::collection::vec(0..900_u64, 1..300),
    ) {
        let policy = LogonPolicy::default();
        let mut story = Story::new(|_| ());
        let mut guesses = Vec::new();
        for wait in waits {
            if story.fails(HOME, &user("ann")).refused.is_none() {
                guesses.push(story.now);
            }
            story.later(Duration::from_secs(wait));
        }
        // Within any `refuse_for`, at most those before a refusal and the one after it.
        for (first, &from) in guesses.iter().enumerate() {
            let within = guesses[first..].iter().filter(|guess| guess.since(from) < policy.refuse_for).count();
            prop_assert!(within <= usize::from(policy.refuse_after) + 1, "{}", within);
        }
    }
}
