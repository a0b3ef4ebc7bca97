//! The guard under time that stands still until all wait: whose logon it judges, what it waits for, and that it holds no more than it may.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::proxy::access::AccessLog;
use crate::proxy::http1::HeadLimits;
use crate::proxy::protect::logon::LogonPolicy;
use crate::proxy::protect::rate::Quota;
use crate::proxy::snapshot;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

fn guard(logons: LogonPolicy, rates: SiteRates) -> Guard {
    let settings = Protection { logons, ..Protection::default() };
    Guard::new(&settings, [("mail.example.test", rates)], HashKey::new(&[7; 16]), seen())
}

/// Of one site.
fn seen() -> Arc<Seen> {
    let snapshot = snapshot::tests::one_site("192.0.2.8:443".parse().unwrap());
    Arc::new(Seen::new(&snapshot, AccessLog::start(std::io::sink()).unwrap(), 7))
}

/// What is counted of rates and logons, and is not zero.
fn counted(guard: &Guard) -> Vec<String> {
    let text = guard.seen.metrics.text();
    let counts = |line: &&str| ["rate_refused", "logon"].iter().any(|name| line.contains(name));
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0")).filter(counts);
    lines.map(|line| line.strip_prefix("rollcall_proxy_").unwrap().to_owned()).collect()
}

fn logons() -> LogonPolicy {
    LogonPolicy { enabled: true, ..LogonPolicy::default() }
}

fn quota(requests: u32) -> Option<Quota> {
    let requests = NonZeroU32::new(requests).unwrap();
    Some(Quota { requests, per: Duration::from_secs(3600), burst: requests })
}

fn request(method: &str, target: &str, fields: &str) -> Head {
    let mut head = Head::default();
    let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    head.read_request(text.as_bytes(), &HeadLimits::default()).unwrap();
    head
}

fn answer(text: &str) -> Head {
    let mut head = Head::default();
    head.read_response(format!("HTTP/1.1 {text}\r\n\r\n").as_bytes(), &HeadLimits::default()).unwrap();
    head
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

async fn ask(guard: &Guard, head: &Head, form: Option<&[u8]>) -> Result<Ticket, Refusal> {
    ask_from(CLIENT, guard, head, form).await
}

async fn ask_from(
    client: IpAddr,
    guard: &Guard,
    head: &Head,
    form: Option<&[u8]>,
) -> Result<Ticket, Refusal> {
    let target = std::str::from_utf8(head.target()).unwrap();
    guard.admit(Asked { site: 0, client, head, target, form }).await
}

/// Guesses one password after the other until it is refused.
async fn guess(guard: &Guard, user: &str) -> (u32, Refusal) {
    for tried in 0..100 {
        let head = request("POST", "/EWS/Exchange.asmx", &basic(user, &tried.to_string()));
        match ask(guard, &head, None).await {
            Ok(ticket) => ticket.answered(&answer("401 Unauthorized")),
            Err(refusal) => return (tried, refusal),
        }
    }
    panic!("never refused");
}

fn refused<T: std::fmt::Debug>(asked: Result<T, Refusal>) -> Why {
    asked.unwrap_err().why
}

#[tokio::test(start_paused = true)]
async fn a_guesser_is_delayed_and_then_refused_and_another_user_of_the_network_is_not() {
    let guard = guard(logons(), SiteRates::default());
    let began = tokio::time::Instant::now();
    let (tried, refusal) = guess(&guard, "ann").await;
    assert_eq!((tried, refusal.why), (8, Why::Logons(Refused::Pair)));
    assert!(refusal.seconds() > 800 && refusal.seconds() <= 900, "{}", refusal.seconds());
    assert_eq!(began.elapsed().as_secs(), 1 + 2 + 4 + 8);
    assert_eq!(
        counted(&guard),
        [
            "logons_total{verdict=\"passed\"} 4",
            "logons_total{verdict=\"delayed\"} 4",
            "logons_total{verdict=\"refused_pair\"} 1",
            "logon_outcomes_total{outcome=\"failed\"} 8",
        ]
    );
    let bob = request("POST", "/EWS/Exchange.asmx", &basic("bob", "x"));
    ask(&guard, &bob, None).await.unwrap().answered(&answer("200 OK"));
    assert_eq!(began.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_form_is_judged_by_its_user_and_one_that_hides_it_by_its_network() {
    let guard = guard(logons(), SiteRates::default());
    let wrong = answer("302 Found\r\nLocation: /owa/auth/logon.aspx?reason=2");
    let post = |target, fields| request("POST", target, fields);
    let form = b"username=ann&password=x";
    let plain = post("/owa/auth.owa", "");
    for head in
        [&plain, &post("/OWA/Auth.OWA?a=b", ""), &post("/owa/%61uth.owa", ""), &post("/ecp/auth.owa", "")]
    {
        for _ in 0..2 {
            ask(&guard, head, Some(form)).await.unwrap().answered(&wrong);
        }
    }
    assert_eq!(refused(ask(&guard, &plain, Some(form)).await), Why::Logons(Refused::Pair));
    ask(&guard, &plain, Some(b"username=bob")).await.unwrap().unanswered();
    // No body that can be read, or a second claim beside it, which may be as false as the guesser likes.
    let beside = post("/owa/auth.owa", &basic("carl", "x"));
    for _ in 0..4 {
        ask(&guard, &plain, None).await.unwrap().answered(&wrong);
        ask(&guard, &beside, Some(b"username=dora")).await.unwrap().answered(&wrong);
    }
    assert_eq!(refused(ask(&guard, &plain, None).await), Why::Logons(Refused::Pair));
    assert_eq!(refused(ask(&guard, &beside, Some(b"username=eve")).await), Why::Logons(Refused::Pair));
}

#[test]
fn only_a_form_that_a_browser_would_send_is_waited_for() {
    let on = guard(logons(), SiteRates::default());
    let off = guard(LogonPolicy::default(), SiteRates::default());
    let form = request("POST", "/owa/auth.owa", "");
    let wanted = |guard: &Guard, head: &Head, body| {
        guard.wants_form(head, std::str::from_utf8(head.target()).unwrap(), body)
    };
    assert_eq!(wanted(&on, &form, Length::Exact(70)), Some(70));
    assert_eq!(wanted(&off, &form, Length::Exact(70)), None);
    for body in [Length::Exact(8193), Length::Chunked, Length::None] {
        assert_eq!(wanted(&on, &form, body), None, "{body:?}");
    }
    let waiting = request("POST", "/owa/auth.owa", "Expect: 100-continue\r\n");
    for head in [waiting, request("GET", "/owa/auth.owa", ""), request("POST", "/owa/", "")] {
        assert_eq!(wanted(&on, &head, Length::Exact(70)), None);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_try_a_password_have_a_rate_of_their_own() {
    let guard = guard(LogonPolicy::default(), SiteRates { general: quota(5), authentication: quota(2) });
    let (plain, logon) = (request("GET", "/owa/", ""), request("GET", "/ews/", &basic("ann", "x")));
    for _ in 0..2 {
        ask(&guard, &logon, None).await.unwrap().unanswered();
    }
    let refusal = ask(&guard, &logon, None).await.unwrap_err();
    assert_eq!(refusal.why, Why::Rate(Class::Authentication));
    assert!((1799..=1800).contains(&refusal.seconds()), "{}", refusal.seconds());
    for _ in 0..2 {
        ask(&guard, &plain, None).await.unwrap().unanswered();
    }
    assert_eq!(refused(ask(&guard, &plain, None).await), Why::Rate(Class::General));
    let refused =
        |class: &str| format!("rate_refused_total{{site=\"mail.example.test\",class=\"{class}\"}} 1");
    assert_eq!(counted(&guard)[..2], [refused("general"), refused("authentication")]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_bounded_number_is_delayed_and_who_leaves_makes_room() {
    let guard = Arc::new(guard(logons(), SiteRates::default()));
    // Each from a network of its own: many users who fail in one are a spray.
    let client = |number: u32| IpAddr::from(number.to_be_bytes());
    for number in 0..=MOST_DELAYED {
        for tried in 0..4 {
            let head = request("GET", "/ews/", &basic("ann", &tried.to_string()));
            let asked = ask_from(client(number), &guard, &head, None).await;
            asked.unwrap().answered(&answer("401 Unauthorized"));
        }
    }
    let try_again = |number: u32| {
        let (guard, client) = (Arc::clone(&guard), client(number));
        let head = request("GET", "/ews/", &basic("ann", "another"));
        async move { ask_from(client, &guard, &head, None).await.map(Ticket::unanswered) }
    };
    let waiting: Vec<_> = (0..MOST_DELAYED).map(|number| tokio::spawn(try_again(number))).collect();
    let all_wait = |most| guard.crowd.waiting.load(Ordering::Relaxed) == most;
    while !all_wait(MOST_DELAYED) {
        tokio::task::yield_now().await;
    }
    assert_eq!(refused(try_again(MOST_DELAYED).await), Why::Delayed);
    assert!(counted(&guard).contains(&"logons_total{verdict=\"refused_crowd\"} 1".to_owned()));
    waiting[0].abort();
    while all_wait(MOST_DELAYED) {
        tokio::task::yield_now().await;
    }
    assert_eq!(try_again(MOST_DELAYED).await, Ok(()));
    for task in waiting.into_iter().skip(1) {
        assert_eq!(task.await.unwrap(), Ok(()));
    }
    assert_eq!(guard.crowd.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_forgives_no_guesser() {
    let before = guard(logons(), SiteRates { general: quota(8), authentication: None });
    guess(&before, "ann").await;
    let settings =
        Protection { logons: LogonPolicy { refuse_after: 20, ..logons() }, ..Protection::default() };
    let rates = SiteRates { general: quota(9), authentication: None };
    let sites = [("www.example.test", rates), ("mail.example.test", rates)];
    let after = before.renewed(&settings, sites, seen());
    let head = request("POST", "/EWS/Exchange.asmx", &basic("ann", "y"));
    let target = "/EWS/Exchange.asmx";
    let asked = |site| after.admit(Asked { site, client: CLIENT, head: &head, target, form: None });
    assert_eq!(refused(asked(0).await), Why::Logons(Refused::Pair));
    assert_eq!(refused(asked(1).await), Why::Rate(Class::General));
    let off = after.renewed(&Protection::default(), [], seen());
    assert!(off.admit(Asked { site: 0, client: CLIENT, head: &head, target, form: None }).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_against_anybody_unless_it_is_enabled() {
    let guard = guard(LogonPolicy::default(), SiteRates::default());
    for _ in 0..1000 {
        let head = request("GET", "/ews/", &basic("ann", "x"));
        ask(&guard, &head, None).await.unwrap().answered(&answer("401 Unauthorized"));
    }
    assert_eq!(counted(&guard), Vec::<String>::new());
}

#[test]
fn the_operator_is_told_once_a_second() {
    let crowd = Crowd::default();
    let at = |millis: u64| Time::from_nanos(1_000_000 * millis);
    let told = [5000, 5000, 5999, 6000, 6500].map(|millis| crowd.may_tell(at(millis)));
    assert_eq!(told, [true, false, false, true, false]);
}
