//! A child may have been taken over: whatever it says, the agent goes on, and what it does not take is a fault.

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::*;
use crate::peer::MAX_MESSAGE;
use crate::peer::channel::Target;
use crate::peer::supervisor::{CallError, Trouble};
use crate::shared::keys::VerifyingKey;

fn node(number: u8) -> Node {
    let key = VerifyingKey([number; 32]);
    Node { name: format!("n{number}"), address: [10, 0, 0, number].into(), key }
}

/// An agent's side without a child.
struct Agent {
    desk: Desk,
    queued: mpsc::UnboundedReceiver<Queued>,
    asked: mpsc::Receiver<Asked>,
    want: watch::Sender<Wanted>,
    wanted: watch::Receiver<Wanted>,
    questions: Questions,
}

impl Agent {
    fn new() -> Self {
        let ((queue, queued), (tell, asked)) = (mpsc::unbounded_channel(), mpsc::channel(2));
        let nodes = Arc::new(vec![node(1), node(2)]);
        let status = watch::Sender::new(PeerStatus::of(&nodes));
        let (want, wanted) = watch::channel(Wanted { nodes, admit: 0, stop: false });
        let pending = Arc::new(Pending::new(VerifyingKey([0; 32])));
        let desk = Desk { pending, queue, asked: tell, status };
        Self { desk, queued, asked, want, wanted, questions: Questions::default() }
    }

    /// What comes of a child that says `bytes` and then nothing, with its end open or closed.
    async fn hears(&self, bytes: &[u8], closes: bool) -> Fault {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (from, _to) = ours.into_split();
        let (questions, desk, wanted) = (&self.questions, &self.desk, &self.wanted);
        let mut hearer = Hearer { from: Frames::new(from, Up::limits), child: 7, questions, desk, wanted };
        let saying = async {
            theirs.write_all(bytes).await.unwrap();
            if closes {
                drop(theirs);
            } else {
                std::future::pending::<()>().await;
            }
        };
        let (fault, _) = tokio::join!(hearer.hear(), async {
            tokio::select! {
                () = saying => {}
                () = tokio::time::sleep(Duration::from_secs(20)) => {}
            }
        });
        fault
    }
}

fn asked(number: u64, name: &str) -> Vec<u8> {
    let from = Asker::Node(name.to_owned());
    Up::Asked { number, from, bytes: vec![1, 2, 3] }.into_frame().encode()
}

fn returned(number: u64) -> Vec<u8> {
    Up::Returned { number, result: Ok(([1; 32], vec![5])) }.into_frame().encode()
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_message_of_a_child_is_a_fault() {
    let long = u32::try_from(MAX_MESSAGE + 1000).unwrap();
    let too_long = [&long.to_be_bytes()[..], &[104], &[0; 8]].concat();
    let down = Down::Admit(1).into_frame().encode();
    let cut = Frame { kind: 102, number: 1, body: vec![1; 31] }.encode();
    let more = Frame { kind: 105, number: 0, body: b"\0\x02n1\x04\x04".to_vec() }.encode();
    let nameless = Frame { kind: 104, number: 1, body: vec![0, 0, 0] }.encode();
    for (bytes, what) in [
        (vec![0xff; 40], "ones"),
        (vec![0; 40], "zeros"),
        (too_long, "too long"),
        (down, "an agent's word"),
        (cut, "half a binding"),
        (more, "a field too many"),
        (nameless, "a nameless node"),
    ] {
        let fault = Agent::new().hears(&bytes, false).await;
        assert!(matches!(fault, Fault::System(_) | Fault::Channel(_)), "{what}: {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_child_and_one_that_closes_are_replaced() {
    let alive = Up::Alive.into_frame().encode();
    let began = Instant::now();
    assert!(matches!(Agent::new().hears(&alive, false).await, Fault::Silent));
    assert!(began.elapsed() >= SILENCE);
    assert!(matches!(Agent::new().hears(&alive, true).await, Fault::Closed));
}

#[tokio::test(start_paused = true)]
async fn only_calls_that_were_made_are_answered() {
    let agent = Agent::new();
    assert!(matches!(agent.hears(&returned(1), false).await, Fault::Unasked));
    let about = About { whom: "n1".to_owned(), key: node(1).key, within: Duration::from_secs(1) };
    let mut ticket = agent.desk.pending.ticket(about.clone());
    let (given_up, number) = (agent.desk.pending.ticket(about), ticket.number);
    let late = given_up.number;
    drop(given_up);
    // A late answer is nobody's fault, and neither is a second one.
    let bytes = [returned(late), returned(number), returned(number)].concat();
    assert!(matches!(agent.hears(&bytes, true).await, Fault::Closed));
    let answer = (&mut ticket.answer).await.unwrap().unwrap();
    assert_eq!((answer.bytes, answer.binding), (vec![5], [1; 32]));
    assert!(matches!(agent.hears(&returned(0), false).await, Fault::Unasked));
}

#[tokio::test(start_paused = true)]
async fn questions_have_new_numbers_and_no_more_are_open_than_may_be() {
    for (bytes, what) in [
        ([asked(2, "n1"), asked(2, "n1")].concat(), "a number twice"),
        ([asked(2, "n1"), asked(1, "n2")].concat(), "a number of before"),
        ((1..=9).flat_map(|number| asked(number, "n1")).collect(), "nine of one node"),
    ] {
        assert!(matches!(Agent::new().hears(&bytes, true).await, Fault::Flood), "{what}");
    }
    let within: Vec<u8> = (1..=8).flat_map(|number| asked(number, "n1")).chain(asked(9, "n2")).collect();
    assert!(matches!(Agent::new().hears(&within, true).await, Fault::Closed));
}

#[tokio::test(start_paused = true)]
async fn questions_that_nobody_takes_are_refused() {
    let mut agent = Agent::new();
    let bytes: Vec<u8> = (1..=3).flat_map(|number| asked(number, "n1")).collect();
    agent.hears(&bytes, true).await;
    let Queued { child, down } = agent.queued.try_recv().unwrap();
    assert_eq!((child, down), (Some(7), Down::Answer { number: 3, bytes: None }));
    let Asked { from, bytes, answer } = agent.asked.try_recv().unwrap();
    assert_eq!((from, bytes), (Asker::Node("n1".to_owned()), vec![1, 2, 3]));
    answer.give(vec![9]);
    assert_eq!(agent.queued.try_recv().unwrap().down, Down::Answer { number: 1, bytes: Some(vec![9]) });
    drop(agent.asked.try_recv().unwrap());
    assert_eq!(agent.queued.try_recv().unwrap().down, Down::Answer { number: 2, bytes: None });
}

#[tokio::test(start_paused = true)]
async fn what_a_child_says_of_nodes_that_are_not_listed_is_let_go() {
    let agent = Agent::new();
    let reachable = |name: &str, why| Up::Reachable { node: name.to_owned(), why }.into_frame().encode();
    let unreachable = Some(Why::Unreachable(Trouble::Closed));
    let bytes = [reachable("n9", None), reachable("n1", None), reachable("n2", unreachable)].concat();
    assert!(matches!(agent.hears(&bytes, true).await, Fault::Closed));
    let error = CallError::Unreachable { whom: node(2).to_string(), trouble: Trouble::Closed };
    let wanted = [("n1".to_owned(), Reach::Yes), ("n2".to_owned(), Reach::No(error))].into();
    assert_eq!(agent.desk.status.borrow().nodes, wanted);
}

#[tokio::test(start_paused = true)]
async fn a_child_is_told_what_is_wanted_before_what_is_asked_and_nothing_that_was_another_s() {
    let mut agent = Agent::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (_from, to) = ours.into_split();
    let about = About { whom: "n3".to_owned(), key: node(3).key, within: Duration::from_secs(1) };
    let ticket = agent.desk.pending.ticket(about);
    let call = |number| Down::Call {
        number,
        within: Duration::from_secs(1),
        target: Target::Node("n3".to_owned()),
        bytes: vec![1],
    };
    let answer = Down::Answer { number: 4, bytes: None };
    for (child, down) in [
        (Some(6), answer.clone()),
        (None, call(ticket.number + 1)),
        (None, call(ticket.number)),
        (Some(7), answer.clone()),
    ] {
        agent.desk.queue.send(Queued { child, down }).unwrap();
    }
    let told = agent.wanted.borrow().clone();
    let nodes = vec![node(3)];
    agent.want.send_modify(|wanted| {
        wanted.nodes = Arc::new(nodes.clone());
        wanted.admit = 2;
    });
    let (child, questions, desk, wanted) = (7, &agent.questions, &agent.desk, agent.wanted.clone());
    let mut teller = Teller { to, told, child, questions, desk, wanted, queued: &mut agent.queued };
    let mut frames = Frames::new(theirs, Down::limits);
    let mut heard = Vec::new();
    while heard.len() < 4 {
        tokio::select! {
            fault = teller.tell() => panic!("{fault:?}"),
            frame = frames.next() => heard.push(Down::of_frame(frame.unwrap().unwrap()).unwrap()),
        }
    }
    assert_eq!(heard, [Down::Nodes(nodes), Down::Admit(2), call(ticket.number), answer]);
    assert_eq!(agent.desk.status.borrow().nodes.keys().collect::<Vec<_>>(), ["n3"]);
}
