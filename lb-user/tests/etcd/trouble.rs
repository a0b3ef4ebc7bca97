//! Who is not let in, members that go and come back, and the child.

use lb_user::config::model::Endpoint;
use lb_user::etcd::Settings;
use lb_user::etcd::request::Request;
use lb_user::shared::generation::GenerationId;
use rustix::process::{Pid, Signal, kill_process};

use crate::confined::{assert_confined, proc_status};
use crate::member::{Member, Talking, USER};

async fn refusal(settings: Settings) -> String {
    Talking::to(settings).ask(Request::List).await.unwrap_err()
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let (member, stranger) = (Member::guarded(), Member::guarded());
    let right = member.settings();
    let user = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
    for (settings, says) in [
        (Settings { user: user("rollcall", "wrong"), ..right.clone() }, "authentication failed"),
        (Settings { user: None, ..right.clone() }, "permission denied"),
        (Settings { prefix: "/elsewhere".to_owned(), ..right.clone() }, "permission denied"),
        (Settings { ca: stranger.settings().ca, ..right.clone() }, "TLS failed"),
        (
            Settings { identity: member.named(), ..right.clone() },
            "refuses a `certificate` with a common name",
        ),
        (Settings { identity: None, ..right.clone() }, "certificate"),
        (Settings { identity: stranger.settings().identity, ..right.clone() }, "certificate"),
        (
            Settings { endpoints: vec![Endpoint { tls: false, ..member.endpoint }], ..right.clone() },
            "http://127.",
        ),
    ] {
        let told = refusal(settings).await;
        let says = says.to_lowercase();
        assert!(told.to_lowercase().contains(&says), "{says}: {told}");
        assert!(told.contains(&member.endpoint.address.to_string()), "it names the member: {told}");
    }
    assert!(Talking::to(right).ask(Request::List).await.is_ok());
}

#[tokio::test]
async fn a_member_that_goes_is_told_of_and_its_return_is_news() {
    let mut member = Member::guarded();
    let talking = Talking::to(member.settings());
    talking.answers().await;
    member.stop();
    // First that the connection ended, then that there is none.
    while !talking.ask(Request::List).await.unwrap_err().contains("refused") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // What has come of that is no news any more once it was heard.
    while tokio::time::timeout(std::time::Duration::from_millis(300), talking.store.news()).await.is_ok() {}
    member.start();
    talking.news().await;
    // It has forgotten the tokens that it gave.
    talking.answers().await;
    let id = GenerationId::from_bytes([1; 32]);
    talking.done(Request::Put { id, head: vec![1], content: None }).await;
    talking.news().await;
}

#[tokio::test]
async fn of_several_members_one_that_answers_is_used() {
    let (mut gone, member) = (Member::open(), Member::open());
    let endpoints = vec![gone.endpoint, member.endpoint];
    let talking = Talking::to(Settings { endpoints, ..member.settings() });
    talking.answers().await;
    gone.stop();
    talking.answers().await;
    let id = GenerationId::from_bytes([1; 32]);
    talking.done(Request::Put { id, head: vec![1], content: None }).await;
    assert_eq!(member.keys().len(), 1);
}

#[tokio::test]
async fn another_etcd_is_taken_up_at_once_and_none_ends_the_child() {
    let (one, other) = (Member::open(), Member::open());
    let talking = Talking::to(one.settings());
    talking.answers().await;
    talking.store.follow(Some(other.settings()));
    talking.answers().await;
    let id = GenerationId::from_bytes([1; 32]);
    talking.done(Request::Put { id, head: vec![1], content: None }).await;
    assert_eq!((one.keys().len(), other.keys().len()), (0, 1));
    talking.store.follow(None);
    let mut pid = talking.supervisor.pid();
    tokio::time::timeout(crate::member::LONG, pid.wait_for(Option::is_none)).await.unwrap().unwrap();
    let told = talking.ask(Request::List).await.unwrap_err();
    assert!(told.contains("no etcd in the configuration"), "{told}");
}

#[tokio::test]
async fn the_child_runs_as_another_user_with_nothing_it_does_not_need_and_is_replaced() {
    let member = Member::guarded();
    let talking = Talking::to(member.settings());
    talking.answers().await;
    let pid = talking.pid().await;
    assert_confined(pid, USER);
    assert_eq!(proc_status(pid, "Threads"), "1");
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    talking.answers().await;
    let next = talking.pid().await;
    assert_ne!(next, pid);
    talking.supervisor.stop().await;
    assert!(!std::path::Path::new(&format!("/proc/{next}")).exists());
}
