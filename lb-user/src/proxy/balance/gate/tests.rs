//! Waiting, polled by hand: what a task would see, without a task.

use std::num::{NonZeroU8, NonZeroU32};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::monitor::Thresholds;
use super::super::set::ServerSet;
use super::super::settings::{
    Algorithm, QueueSettings, RESPONSE_TIME_PERIOD, ServerSettings, Settings, State, TestSettings, Weight,
};
use super::*;

/// Servers with one connection each, of which all passed the only test.
fn farm(servers: u8, queue: QueueSettings) -> Arc<Farm> {
    let server = |number: u8| ServerSettings {
        name: format!("ex{number}"),
        address: ([192, 0, 2, number], 443).into(),
        weight: Weight::DEFAULT,
        state: State::Active,
        backup: false,
        connections: Some(NonZeroU32::MIN),
    };
    let thresholds = Thresholds { failures: NonZeroU8::MIN, successes: NonZeroU8::MIN };
    let settings = Settings {
        servers: (0..servers).map(server).collect(),
        algorithm: Algorithm::WeightedRoundRobin,
        slow_start: Duration::ZERO,
        min_servers: 0,
        tests: vec![TestSettings { name: "owa".to_owned(), thresholds, live_traffic: None }],
        response_time_period: RESPONSE_TIME_PERIOD,
        queue,
        hash_seed: [1, 2],
    };
    let farm = Farm::new(settings, Time::default()).unwrap();
    for server in 0..usize::from(servers) {
        farm.handle_test(0, server, true, Time::default());
    }
    Arc::new(farm)
}

const PATIENT: QueueSettings = QueueSettings { length: 10, timeout: Duration::from_secs(600) };
const ANY: Criteria = Criteria { test: Some(0), key: None, stay: None, near: None, tried: ServerSet::EMPTY };

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn server(outcome: &Poll<Result<Slot, NoSlot>>) -> Option<usize> {
    match outcome {
        Poll::Ready(Ok(slot)) => Some(slot.server()),
        Poll::Ready(Err(_)) | Poll::Pending => None,
    }
}

fn connections(farm: &Farm, server: usize) -> u32 {
    farm.status(server).counters.connections
}

#[tokio::test]
async fn who_came_first_is_served_first_and_nobody_beyond_the_limit() {
    let farm = farm(1, PATIENT);
    let mut holder = Some(farm.slot(&ANY).await.unwrap());
    let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(farm.slot(&ANY))).collect();
    for waiter in &mut waiting {
        assert!(poll(waiter.as_mut()).is_pending());
    }
    for next in 0..4 {
        drop(holder.take());
        assert_eq!(connections(&farm, 0), 1, "given on, not given up");
        let mut late = pin!(farm.slot(&ANY));
        assert!(poll(late.as_mut()).is_pending(), "who comes now is last");
        for waiter in &mut waiting[next + 1..] {
            assert!(poll(waiter.as_mut()).is_pending());
        }
        holder = Some(waiting[next].as_mut().await.unwrap());
    }
    drop(holder);
    assert_eq!((connections(&farm, 0), farm.waiting()), (0, 0));
}

#[tokio::test]
async fn who_gives_up_leaves_the_queue() {
    let farm = farm(1, PATIENT);
    let holder = farm.slot(&ANY).await.unwrap();
    let mut first = Box::pin(farm.slot(&ANY));
    let mut second = pin!(farm.slot(&ANY));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    assert_eq!(farm.waiting(), 2);
    drop(first);
    assert_eq!(farm.waiting(), 1);
    drop(holder);
    assert_eq!(server(&poll(second.as_mut())), Some(0));
}

#[tokio::test]
async fn a_slot_for_one_who_is_gone_goes_to_the_next() {
    let farm = farm(1, PATIENT);
    let holder = farm.slot(&ANY).await.unwrap();
    let mut first = Box::pin(farm.slot(&ANY));
    let mut second = Box::pin(farm.slot(&ANY));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop(holder);
    // It has the slot, and does not look.
    drop(first);
    assert!(second.as_mut().await.is_ok());
    assert_eq!((connections(&farm, 0), farm.waiting()), (0, 0));
}

#[tokio::test]
async fn nobody_waits_longer_than_the_timeout_nor_in_a_full_queue() {
    let farm = farm(1, QueueSettings { length: 1, timeout: Duration::from_millis(5) });
    let holder = farm.slot(&ANY).await.unwrap();
    let mut waiter = pin!(farm.slot(&ANY));
    assert!(poll(waiter.as_mut()).is_pending());
    assert_eq!(farm.slot(&ANY).await.unwrap_err(), NoSlot::QueueFull(QueueFull { length: 1 }));
    assert_eq!(waiter.await.unwrap_err(), NoSlot::TimedOut);
    assert_eq!(farm.waiting(), 0);
    drop(holder);
    assert!(farm.slot(&ANY).await.is_ok());
}

#[tokio::test]
async fn a_client_waits_for_its_own_server_and_holds_up_nobody() {
    let farm = farm(2, PATIENT);
    let (a, b) = (farm.slot(&ANY).await.unwrap(), farm.slot(&ANY).await.unwrap());
    let (first, second) = if a.server() == 0 { (a, b) } else { (b, a) };
    let own = Criteria { stay: Some(0), ..ANY };
    let mut bound = pin!(farm.slot(&own));
    let mut free = pin!(farm.slot(&ANY));
    assert!(poll(bound.as_mut()).is_pending() && poll(free.as_mut()).is_pending());
    drop(second);
    assert!(poll(bound.as_mut()).is_pending());
    let got = poll(free.as_mut());
    assert_eq!(server(&got), Some(1));
    drop(first);
    assert_eq!(server(&poll(bound.as_mut())), Some(0));
}

#[tokio::test]
async fn a_client_goes_where_its_other_connections_go_while_there_is_room() {
    let farm = farm(2, PATIENT);
    let near = Criteria { near: Some(1), ..ANY };
    for _ in 0..4 {
        assert_eq!(farm.slot(&near).await.unwrap().server(), 1);
    }
    let cookie = Criteria { stay: Some(0), ..near };
    assert_eq!(farm.slot(&cookie).await.unwrap().server(), 0, "its cookie counts first");
    let only = farm.slot(&near).await.unwrap();
    assert_eq!(farm.slot(&near).await.unwrap().server(), 0, "that one is full, another has room");
    drop(only);
    farm.handle_test(0, 1, false, Time::default());
    assert_eq!(farm.slot(&near).await.unwrap().server(), 0);
}

#[tokio::test]
async fn a_change_of_health_serves_those_who_wait() {
    let farm = farm(2, PATIENT);
    farm.handle_test(0, 1, false, Time::default());
    let _holder = farm.slot(&ANY).await.unwrap();
    let mut first = pin!(farm.slot(&ANY));
    let mut second = pin!(farm.slot(&ANY));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    farm.handle_test(0, 1, true, Time::default());
    farm.recheck();
    let got = poll(first.as_mut());
    assert_eq!(server(&got), Some(1));
    assert!(poll(second.as_mut()).is_pending());
    farm.handle_test(0, 0, false, Time::default());
    farm.handle_test(0, 1, false, Time::default());
    farm.recheck();
    assert!(matches!(poll(second.as_mut()), Poll::Ready(Err(NoSlot::NoServer))));
}

#[tokio::test]
async fn a_connection_of_the_former_farm_counts_and_is_waited_for() {
    let old = farm(1, PATIENT);
    let holder = old.slot(&ANY).await.unwrap();
    let new = Arc::new(old.succeed(old.settings().clone(), Time::default()).unwrap());
    let mut waiter = pin!(new.slot(&ANY));
    assert!(poll(waiter.as_mut()).is_pending());
    let mut waiter_of_old = pin!(old.slot(&ANY));
    assert!(poll(waiter_of_old.as_mut()).is_pending());
    drop(holder);
    let got = poll(waiter.as_mut());
    assert_eq!(server(&got), Some(0));
    drop(got);
    assert_eq!(server(&poll(waiter_of_old.as_mut())), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_tasks_come_and_go_no_slot_is_lost() {
    let farm = farm(2, QueueSettings { length: 1000, ..PATIENT });
    let tasks: Vec<_> = (0..400)
        .map(|number| {
            let farm = Arc::clone(&farm);
            tokio::spawn(async move {
                let slot = farm.slot(&ANY).await.unwrap();
                for _ in 0..number % 3 {
                    tokio::task::yield_now().await;
                    assert_eq!(connections(&farm, slot.server()), 1);
                }
            })
        })
        .collect();
    for (number, task) in tasks.iter().enumerate() {
        if number % 3 == 0 {
            task.abort();
        }
    }
    for task in tasks {
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
    assert_eq!((connections(&farm, 0), connections(&farm, 1), farm.waiting()), (0, 0, 0));
}
