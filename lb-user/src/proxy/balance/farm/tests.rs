//! The rules of a farm, by its public functions.

use std::num::{NonZeroU8, NonZeroU16, NonZeroU32};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Health;
use super::super::hash::HashOf;
use super::super::monitor::{LiveTraffic, Thresholds};
use super::super::settings::{
    FarmError, QueueSettings, RESPONSE_TIME_PERIOD, ServerSettings, State, TestSettings, Weight,
};
use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * SECOND)
}

fn server(number: usize, weight: u32) -> ServerSettings {
    ServerSettings {
        name: format!("ex{number}"),
        address: format!("192.0.2.{number}:443").parse().unwrap(),
        weight: Weight::new(weight).unwrap(),
        state: State::Active,
        backup: false,
        connections: None,
    }
}

fn test(name: &str) -> TestSettings {
    TestSettings {
        name: name.to_owned(),
        thresholds: Thresholds { failures: NonZeroU8::MIN, successes: NonZeroU8::MIN },
        live_traffic: Some(LiveTraffic {
            failures: NonZeroU16::new(2).unwrap(),
            period: Duration::from_secs(10),
            statuses: Some("500-".parse().unwrap()),
        }),
    }
}

fn settings(algorithm: Algorithm, weights: &[u32]) -> Settings {
    Settings {
        servers: weights.iter().enumerate().map(|(number, weight)| server(number, *weight)).collect(),
        algorithm,
        slow_start: Duration::ZERO,
        min_servers: 0,
        tests: vec![test("owa"), test("mapi")],
        response_time_period: RESPONSE_TIME_PERIOD,
        queue: QueueSettings { length: 0, timeout: Duration::ZERO },
        hash_seed: [1, 2],
    }
}

/// All servers passed all tests before slow start could matter.
fn healthy(settings: Settings) -> Farm {
    let farm = Farm::new(settings, at(0)).unwrap();
    for test in 0..farm.settings().tests.len() {
        for server in 0..farm.settings().servers.len() {
            farm.handle_test(test, server, true, at(0));
        }
    }
    farm
}

const OWA: Criteria = Criteria { test: Some(0), key: None, stay: None, near: None, tried: ServerSet::EMPTY };
const MAPI: Criteria = Criteria { test: Some(1), ..OWA };

fn spread(farm: &Farm, requests: usize, now: Time) -> Vec<usize> {
    let mut counts = vec![0; farm.settings().servers.len()];
    for _ in 0..requests {
        let Choice::Server(server) = farm.choose(&OWA, now) else { panic!("no server") };
        counts[server] += 1;
    }
    counts
}

#[test]
fn a_server_can_work_for_one_route_and_not_for_another() {
    let farm = healthy(settings(Algorithm::WeightedRoundRobin, &[100, 100]));
    assert_eq!(farm.handle_test(1, 0, false, at(1)), Some(Health::Unhealthy));
    assert_eq!((farm.health(0, 0), farm.health(1, 0)), (Health::Healthy, Health::Unhealthy));
    assert_eq!(spread(&farm, 4, at(1)), [2, 2]);
    for _ in 0..3 {
        assert_eq!(farm.choose(&MAPI, at(1)), Choice::Server(1));
    }
    let untested = Criteria { test: None, ..OWA };
    farm.handle_test(0, 1, false, at(1));
    assert_eq!(farm.view(untested.test).candidates(ServerSet::EMPTY), ServerSet::first(2));
}

#[test]
fn least_requests_prefers_the_server_with_the_fewest_for_its_weight() {
    let farm = healthy(settings(Algorithm::LeastRequests, &[100, 100, 200]));
    let mut guards = Vec::new();
    for _ in 0..40 {
        let Choice::Server(server) = farm.choose(&OWA, at(1)) else { panic!("no server") };
        guards.push((server, farm.begin(server)));
    }
    let requests = |server| farm.status(server).counters.requests;
    assert_eq!([requests(0), requests(1), requests(2)], [10, 10, 20]);
    guards.retain(|(server, _)| *server != 1);
    assert_eq!(farm.choose(&OWA, at(1)), Choice::Server(1));
}

#[test]
fn idle_servers_take_turns_under_least_requests() {
    let farm = healthy(settings(Algorithm::LeastRequests, &[100, 100, 100]));
    assert_eq!(spread(&farm, 9, at(1)), [3, 3, 3]);
}

#[test]
fn least_response_time_prefers_the_quickest_server() {
    let farm = healthy(settings(Algorithm::LeastResponseTime, &[100, 100, 100]));
    for (server, millis) in [(0, 300), (1, 20), (2, 80)] {
        farm.begin(server).responded(Duration::from_millis(millis), at(1));
    }
    assert_eq!(spread(&farm, 5, at(1)), [0, 5, 0]);
    let _busy: Vec<_> = (0..4).map(|_| farm.begin(1)).collect();
    assert_eq!(farm.choose(&OWA, at(1)), Choice::Server(2), "five times 20 ms is more than 80");
}

#[test]
fn weighted_total_traffic_prefers_the_server_that_carried_least_for_its_weight() {
    let farm = healthy(settings(Algorithm::WeightedTotalTraffic, &[100, 100, 300]));
    for (server, uploaded, downloaded) in [(0, 400_000, 100_000), (1, 0, 400_000), (2, 100_000, 800_000)] {
        let request = farm.begin(server);
        request.uploaded(uploaded);
        request.downloaded(downloaded);
    }
    assert_eq!(farm.choose(&OWA, at(0)), Choice::Server(2));
    farm.begin(2).downloaded(500_000);
    assert_eq!(farm.choose(&OWA, at(0)), Choice::Server(1));
    assert_eq!(spread(&farm, 5, at(3600)), [1, 1, 3], "an hour later none of it matters");
}

#[test]
fn one_key_finds_one_server_and_no_key_takes_turns() {
    let farm = healthy(settings(Algorithm::Hash(HashOf::Client), &[100, 100, 100]));
    let of = |client: &str| farm.key("/", &Head::default(), client.parse().unwrap());
    let keyed = Criteria { key: of("192.0.2.77"), ..OWA };
    let first = farm.choose(&keyed, at(1));
    assert!((0..10).all(|_| farm.choose(&keyed, at(1)) == first));
    let mut reversed = farm.settings().clone();
    reversed.servers.reverse();
    let Choice::Server(index) = healthy(reversed.clone()).choose(&keyed, at(1)) else { panic!("no server") };
    assert_eq!(first, Choice::Server(2 - index), "the order of the servers does not matter");
    assert_eq!(spread(&farm, 6, at(1)), [2, 2, 2]);
    assert_eq!(
        healthy(settings(Algorithm::LeastRequests, &[1])).key("/", &Head::default(), [1, 2, 3, 4].into()),
        None
    );
}

#[test]
fn a_draining_server_keeps_its_clients_and_a_disabled_one_does_not() {
    let farm = healthy(settings(Algorithm::WeightedRoundRobin, &[100, 100]));
    let stay = Criteria { stay: Some(0), ..OWA };
    for (state, new, stays) in [(State::Drain, 1, 0), (State::Disabled, 1, 1)] {
        farm.set_state(0, state, at(1));
        assert_eq!(farm.status(0).state, state);
        assert!((0..4).all(|_| farm.choose(&OWA, at(1)) == Choice::Server(new)));
        assert_eq!(farm.choose(&stay, at(1)), Choice::Server(stays));
    }
    farm.set_state(0, State::Active, at(2));
    assert_eq!(spread(&farm, 2, at(2)), [1, 1]);
}

#[test]
fn a_client_leaves_a_server_that_is_unhealthy_or_was_tried() {
    let farm = healthy(settings(Algorithm::WeightedRoundRobin, &[100, 100]));
    let stay = Criteria { stay: Some(0), ..OWA };
    assert_eq!(farm.choose(&stay, at(1)), Choice::Server(0));
    let tried = Criteria { tried: ServerSet::first(1), ..stay };
    assert_eq!(farm.choose(&tried, at(1)), Choice::Server(1));
    assert_eq!(farm.choose(&Criteria { stay: Some(77), ..OWA }, at(1)), farm.choose(&stay, at(1)), "unknown");
    farm.handle_test(0, 0, false, at(1));
    assert_eq!(farm.choose(&stay, at(1)), Choice::Server(1));
    assert_eq!(farm.choose(&Criteria { tried: ServerSet::first(2), ..OWA }, at(1)), Choice::NoServer);
}

#[test]
fn live_failures_take_a_server_out_until_its_next_good_test() {
    let farm = healthy(settings(Algorithm::WeightedRoundRobin, &[100, 100]));
    assert_eq!(farm.handle_live(0, 0, LiveOutcome::Status(404), at(1)), None);
    assert_eq!(farm.handle_live(0, 0, LiveOutcome::Status(503), at(1)), None);
    assert_eq!(farm.handle_live(0, 0, LiveOutcome::NoConnection, at(2)), Some(Health::Unhealthy));
    assert_eq!(spread(&farm, 4, at(2)), [0, 4]);
    assert_eq!(farm.health(1, 0), Health::Healthy, "other routes know nothing of it");
    assert_eq!(farm.handle_live(0, 0, LiveOutcome::Status(200), at(3)), None);
    assert_eq!(farm.handle_test(0, 0, true, at(4)), Some(Health::Healthy));
    assert_eq!(spread(&farm, 4, at(4)), [2, 2]);
}

#[test]
fn a_server_that_comes_back_gets_its_share_little_by_little() {
    let mut settings = settings(Algorithm::WeightedRoundRobin, &[100, 100]);
    settings.slow_start = Duration::from_secs(100);
    let farm = healthy(settings);
    assert_eq!(spread(&farm, 100, at(200)), [50, 50]);
    farm.handle_test(0, 0, false, at(300));
    farm.handle_test(0, 0, true, at(1000));
    let shares: Vec<_> = [1000, 1025, 1050, 1100].map(|now| spread(&farm, 1000, at(now))[0]).into();
    for (share, wanted) in shares.iter().zip([1000.0 / 11.0, 1000.0 / 5.0, 1000.0 / 3.0, 500.0]) {
        assert!((*share as f64 - wanted).abs() <= 2.0, "{shares:?}");
    }
    farm.set_state(1, State::Drain, at(1200));
    farm.set_state(1, State::Active, at(1300));
    assert!(spread(&farm, 1000, at(1300))[1] < 100, "after a drain too");
}

#[test]
fn a_weight_set_at_run_time_counts_at_once() {
    let farm = healthy(settings(Algorithm::WeightedRoundRobin, &[100, 100]));
    farm.set_weight(0, Weight::new(300).unwrap());
    assert_eq!(spread(&farm, 8, at(1)), [6, 2]);
}

#[test]
fn a_server_at_its_limit_is_left_out_and_all_at_theirs_are_waited_for() {
    let mut settings = settings(Algorithm::WeightedRoundRobin, &[100, 100, 100]);
    settings.servers[0].connections = NonZeroU32::new(1);
    settings.servers[1].connections = NonZeroU32::new(2);
    settings.servers[2].backup = true;
    let farm = healthy(settings);
    farm.load(0).connect();
    assert_eq!(spread(&farm, 3, at(1)), [0, 3, 0]);
    assert_eq!(
        farm.choose(&Criteria { stay: Some(0), ..OWA }, at(1)),
        Choice::Full,
        "a client waits for its server"
    );
    farm.load(1).connect();
    farm.load(1).connect();
    assert_eq!(farm.choose(&OWA, at(1)), Choice::Full, "a backup is not for load");
    farm.load(0).disconnect();
    assert_eq!(farm.choose(&OWA, at(1)), Choice::Server(0));
}

#[test]
fn a_successor_knows_of_the_same_server_what_was_known() {
    let old = healthy(settings(Algorithm::WeightedRoundRobin, &[100, 100, 100]));
    old.handle_test(1, 1, false, at(1));
    old.set_state(1, State::Drain, at(1));
    old.set_weight(1, Weight::new(7).unwrap());
    let in_flight = old.begin(1);
    in_flight.downloaded(5);

    let mut changed = settings(Algorithm::LeastRequests, &[100, 100, 100, 100]);
    changed.servers.rotate_left(1);
    changed.servers[1].address = "192.0.2.99:443".parse().unwrap();
    changed.tests = vec![test("mapi"), test("ews")];
    let new = old.succeed(changed.clone(), at(2)).unwrap();
    let status = new.status(0);
    assert_eq!((status.state, status.weight.get()), (State::Drain, 7));
    assert_eq!((status.counters.requests, status.counters.total, status.counters.downloaded), (1, 1, 5));
    drop(in_flight);
    assert_eq!(new.status(0).counters.requests, 0);
    assert_eq!(new.health(0, 0), Health::Unhealthy, "mapi has another index now");
    assert_eq!(new.health(1, 0), Health::Untested, "ews is new");
    assert_eq!(new.health(0, 1), Health::Untested, "ex2 has another address");
    assert_eq!(new.health(0, 2), Health::Untested, "ex3 is new");
    assert_eq!(new.health(0, 3), Health::Healthy, "ex0");

    changed.servers[0].state = State::Disabled;
    changed.servers[0].weight = Weight::new(50).unwrap();
    let status = new.succeed(changed, at(3)).unwrap().status(0);
    assert_eq!((status.state, status.weight.get()), (State::Disabled, 50), "the settings say another");
}

#[test]
fn settings_that_make_no_farm_say_why() {
    let good = settings(Algorithm::WeightedRoundRobin, &[100, 100]);
    let with = |change: fn(&mut Settings)| {
        let mut settings = good.clone();
        change(&mut settings);
        Farm::new(settings, at(0)).unwrap_err()
    };
    assert_eq!(with(|settings| settings.servers.clear()), FarmError::ServerCount { count: 0 });
    assert_eq!(
        with(|settings| settings.servers = (0..65).map(|number| server(number, 1)).collect()),
        FarmError::ServerCount { count: 65 }
    );
    assert_eq!(
        with(|settings| settings.servers[1].name = "ex0".to_owned()),
        FarmError::ServerName { name: "ex0".to_owned() }
    );
    assert_eq!(
        with(|settings| settings.tests.push(test("owa"))),
        FarmError::TestName { name: "owa".to_owned() }
    );
}

#[derive(Clone, Debug)]
enum Op {
    State(usize, State),
    Weight(usize, u32),
    Test(usize, bool),
    Live(usize),
    Choose { stay: Option<usize>, tried: u8, key: Option<u64> },
    Finish,
}

fn op() -> impl Strategy<Value = Op> {
    let state = prop_oneof![Just(State::Active), Just(State::Drain), Just(State::Disabled)];
    prop_oneof![
        (0..6_usize, state).prop_map(|(server, state)| Op::State(server, state)),
        (0..6_usize, 1..=1000_u32).prop_map(|(server, weight)| Op::Weight(server, weight)),
        (0..6_usize, any::<bool>()).prop_map(|(server, passed)| Op::Test(server, passed)),
        (0..6_usize).prop_map(Op::Live),
        (proptest::option::of(0..8_usize), any::<u8>(), proptest::option::of(any::<u64>()))
            .prop_map(|(stay, tried, key)| Op::Choose { stay, tried: tried & tried >> 1, key }),
        Just(Op::Finish),
    ]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::WeightedRoundRobin),
        Just(Algorithm::LeastRequests),
        Just(Algorithm::LeastResponseTime),
        Just(Algorithm::WeightedTotalTraffic),
        Just(Algorithm::Hash(HashOf::Url)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_only_a_usable_server_is_chosen(
        algorithm in algorithm(),
        slow_start in 0..20_u64,
        ops in vec((0..3_u64, op()), 0..80),
    ) {
        let mut settings = settings(algorithm, &[100, 1, 1000, 50, 100, 7]);
        settings.slow_start = Duration::from_secs(slow_start);
        settings.servers[5].backup = true;
        let farm = Farm::new(settings, at(0)).unwrap();
        let (mut now, mut guards) = (0, Vec::new());
        for (wait, op) in ops {
            now += wait;
            match op {
                Op::State(server, state) => farm.set_state(server, state, at(now)),
                Op::Weight(server, weight) => farm.set_weight(server, Weight::new(weight).unwrap()),
                Op::Test(server, passed) => {
                    farm.handle_test(0, server, passed, at(now));
                }
                Op::Live(server) => {
                    farm.handle_live(0, server, LiveOutcome::NoConnection, at(now));
                }
                Op::Finish => drop(guards.pop()),
                Op::Choose { stay, tried, key } => {
                    let tried = (0..8).filter(|server| tried >> server & 1 == 1).collect();
                    let criteria = Criteria { test: Some(0), key, stay, near: None, tried };
                    let usable = |server: usize| {
                        let state = farm.status(server).state;
                        let admitted = state == State::Active || state == State::Drain && stay == Some(server);
                        admitted && farm.health(0, server) != Health::Unhealthy && !tried.contains(server)
                    };
                    match farm.choose(&criteria, at(now)) {
                        Choice::Server(server) => {
                            prop_assert!(usable(server), "{}", server);
                            prop_assert!(stay.is_none_or(|stay| stay >= 6 || !usable(stay) || stay == server));
                            let request = farm.begin(server);
                            request.responded(Duration::from_millis(now), at(now));
                            request.downloaded(now * 1000);
                            guards.push(request);
                        }
                        Choice::NoServer => prop_assert!(!(0..6).any(usable)),
                        Choice::Full => prop_assert!(false, "nothing is limited"),
                    }
                }
            }
        }
    }
}
