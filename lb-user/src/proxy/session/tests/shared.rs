//! Server connections that a farm shares: whose they become, and who never gets them.

use proptest::prelude::*;

use super::*;
use crate::config::model::Reuse;

fn shared() -> Scene {
    scene_with(|snapshot| snapshot.farms[0].reuse = Reuse::Shared)
}

impl Scene {
    /// Another client takes the place of this one, which stays as long as its stream.
    fn next_client(&mut self) -> DuplexStream {
        let routes = Arc::clone(&self.routes);
        let (client, session) = join(&self.shared, Entry::Tls { sni: Some(NAME.to_owned()), routes });
        self.session = session;
        std::mem::replace(&mut self.client, client)
    }

    /// The request is answered over that connection; no other was opened.
    async fn is_answered_over(&mut self, server: &mut DuplexStream, request: &str, answer: &str) {
        self.send(&format!("{request}\r\n")).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.read_u8().await.unwrap());
        }
        assert!(head.starts_with(request.as_bytes()), "{}", head.escape_ascii());
        say(server, answer).await;
        self.gets(answer).await;
        assert!(self.servers.try_recv().is_err(), "another connection was opened");
    }

    /// The request, of this number, is answered over a connection that is opened for it.
    async fn is_answered_over_another(&mut self, request: &str, number: u64, answer: &str) -> DuplexStream {
        self.send(&format!("{request}\r\n")).await;
        let mut server = self.server().await;
        expect(&mut server, &forwarded(request, number)).await;
        say(&mut server, answer).await;
        self.gets(answer).await;
        server
    }
}

const LOG_ON: &str = "GET /owa/ HTTP/1.1\r\nHost: mail.example.test\r\nAuthorization: NTLM TlRM\r\n";
const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn the_next_client_gets_the_connection_that_the_last_one_left() {
    let mut scene = shared();
    let mut server = scene.is_answered_over_another(GET, 1, OK).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(scene.next_client());
        scene.is_answered_over(&mut server, GET, OK).await;
    }
    // One that is on its way is nobody else's.
    scene.send(&format!("{GET}\r\n")).await;
    expect(&mut server, &forwarded(GET, 5)).await;
    clients.push(scene.next_client());
    scene.send(&format!("{GET}\r\n")).await;
    let mut another = scene.server().await;
    expect(&mut another, &forwarded(GET, 6)).await;
}

#[tokio::test(start_paused = true)]
async fn a_farm_that_does_not_say_so_shares_nothing() {
    let mut scene = scene();
    scene.send(&format!("{GET}\r\n")).await;
    let mut server = scene.server().await;
    say(&mut server, OK).await;
    scene.gets(OK).await;
    let _first = scene.next_client();
    scene.send(&format!("{GET}\r\n")).await;
    let mut another = scene.server().await;
    expect(&mut another, &forwarded(GET, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn who_logs_on_does_so_over_a_fresh_connection_that_nobody_else_ever_gets() {
    let mut scene = shared();
    let mut rests = scene.is_answered_over_another(GET, 1, OK).await;
    let mut own = scene.is_answered_over_another(LOG_ON, 2, OK).await;
    // All that this client asks from here on goes over it, and of others nothing.
    scene.is_answered_over(&mut own, GET, OK).await;
    let first = scene.next_client();
    scene.is_answered_over(&mut rests, GET, OK).await;
    // Not even when its client is gone: it ends with it.
    drop(first);
    assert_eq!(own.read(&mut [0]).await.unwrap(), 0);
    let _second = scene.next_client();
    scene.is_answered_over(&mut rests, GET, OK).await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_connection_that_speaks_of_logons_goes_to_nobody() {
    for answer in [CHALLENGE, "HTTP/1.1 200 OK\r\nPersistent-Auth: true\r\nContent-Length: 0\r\n\r\n"] {
        let mut scene = shared();
        let mut server = scene.is_answered_over_another(GET, 1, answer).await;
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "it was kept");
        // The client itself logs on over another one.
        scene.send(&format!("{LOG_ON}\r\n")).await;
        let mut own = scene.server().await;
        expect(&mut own, &forwarded(LOG_ON, 2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_connection_at_rest_takes_to_its_end_is_sent_again_if_it_may_be() {
    for (request, answered, again) in [
        (GET, "", true),
        ("DELETE /a HTTP/1.1\r\nHost: mail.example.test\r\n", "", true),
        ("POST /a HTTP/1.1\r\nHost: mail.example.test\r\n", "", false),
        (GET, "HTTP/1.1 200 O", false),
        (GET, "HTTP/1.1 103 Early Hints\r\n\r\n", false),
    ] {
        let mut scene = shared();
        let mut server = scene.is_answered_over_another(GET, 1, OK).await;
        scene.send(&format!("{request}\r\n")).await;
        expect(&mut server, &forwarded(request, 2)).await;
        say(&mut server, answered).await;
        drop(server);
        if again {
            let mut fresh = scene.server().await;
            expect(&mut fresh, &forwarded(request, 2)).await;
            say(&mut fresh, OK).await;
            scene.gets(OK).await;
            // The fresh one may be shared like any other; that it ends now is an error.
            scene.send(&format!("{GET}\r\n")).await;
            expect(&mut fresh, &forwarded(GET, 3)).await;
        } else {
            if answered.contains("103") {
                scene.gets(answered).await;
            }
            scene.gets("HTTP/1.1 502 Bad Gateway\r\n").await;
            assert!(scene.servers.try_recv().is_err(), "{request}: it was sent again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_connection_that_ends_is_an_error_and_tried_no_second_time() {
    let mut scene = shared();
    scene.send(&format!("{GET}\r\n")).await;
    drop(scene.server().await);
    scene.gets("HTTP/1.1 502 Bad Gateway\r\n").await;
    assert!(scene.servers.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_a_server_says_out_of_turn_is_nobodys_answer_where_connections_are_shared() {
    let mut scene = shared();
    let mut server = scene.is_answered_over_another(GET, 1, OK).await;
    say(&mut server, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
    let _first = scene.next_client();
    scene.is_answered_over_another(GET, 2, OK).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_message_did_not_come_to_its_end_is_not_shared() {
    // The client leaves in the middle of its body, or of its answer.
    for (request, answer) in [
        (format!("{POST}Content-Length: 6\r\n\r\nabc"), ""),
        (format!("{GET}\r\n"), "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nabc"),
    ] {
        let mut scene = shared();
        scene.send(&request).await;
        let mut server = scene.server().await;
        say(&mut server, answer).await;
        let first = scene.next_client();
        drop(first);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        scene.send(&format!("{GET}\r\n")).await;
        let mut another = scene.server().await;
        say(&mut another, OK).await;
        scene.gets(OK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn connections_at_rest_count_where_a_servers_are_limited() {
    let mut scene = scene_with(|snapshot| {
        snapshot.farms[0].reuse = Reuse::Shared;
        snapshot.farms[0].servers[0].share.connections = std::num::NonZeroU32::new(1);
    });
    let mut rests = scene.is_answered_over_another(GET, 1, OK).await;
    scene.send(&format!("{LOG_ON}\r\n")).await;
    let mut own = scene.server().await;
    expect(&mut own, &forwarded(LOG_ON, 2)).await;
    assert_eq!(rests.read(&mut [0]).await.unwrap(), 0, "the server has two connections");
}

/// A request of the sequence below, and how it is answered.
#[derive(Clone, Copy, Debug)]
struct Step {
    client: usize,
    logs_on: bool,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Plain,
    Challenge,
    Persistent,
    /// And then the server closes the connection.
    Last,
}

impl Answer {
    fn speaks_of_logons(self) -> bool {
        matches!(self, Self::Challenge | Self::Persistent)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Plain | Self::Last => OK,
            Self::Challenge => CHALLENGE,
            Self::Persistent => "HTTP/1.1 200 OK\r\nPersistent-Auth: true\r\nContent-Length: 0\r\n\r\n",
        }
    }
}

/// What a server saw on one connection: the client's connection, whether it logs on, and what was answered.
type Seen = Vec<(usize, bool, Answer)>;

/// Answers as each request says it wants to be answered.
async fn acceptor(mut stream: DuplexStream, seen: Arc<Mutex<Vec<Seen>>>) {
    let number = {
        let mut all = seen.lock().unwrap();
        all.push(Vec::new());
        all.len() - 1
    };
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let says = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let answer = [Answer::Plain, Answer::Challenge, Answer::Persistent, Answer::Last];
        let answer = answer[says("X-Answer: ").parse::<usize>().unwrap()];
        let client = says("X-Client: ").parse().unwrap();
        seen.lock().unwrap()[number].push((client, head.contains("Authorization: NTLM"), answer));
        if stream.write_all(answer.text().as_bytes()).await.is_err() || answer == Answer::Last {
            return;
        }
    }
}

/// Has clients ask in this order; a client whose connection has ended comes again as another.
async fn crowd(steps: &[Step]) -> Vec<Seen> {
    let mut scene = shared();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (mut servers, saw) = (scene.servers, Arc::clone(&seen));
    tokio::spawn(async move {
        while let Some(stream) = servers.recv().await {
            tokio::spawn(acceptor(stream, Arc::clone(&saw)));
        }
    });
    let mut clients: BTreeMap<usize, (usize, DuplexStream)> = BTreeMap::new();
    let mut number = 0;
    for step in steps {
        let (id, mut stream) = clients.remove(&step.client).unwrap_or_else(|| {
            number += 1;
            let entry = Entry::Tls { sni: Some(NAME.to_owned()), routes: Arc::clone(&scene.routes) };
            (number, join(&scene.shared, entry).0)
        });
        let logs_on = if step.logs_on { "Authorization: NTLM TlRM\r\n" } else { "" };
        let answer = step.answer as usize;
        let request = format!("{GET}{logs_on}X-Client: {id}\r\nX-Answer: {answer}\r\n\r\n");
        let mut got = vec![0; step.answer.text().len()];
        // Where a logged-on connection has ended, its client's ends, too: nothing is answered then.
        let asked = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_exact(&mut got).await
        };
        if asked.await.is_ok() {
            assert!(got.starts_with(b"HTTP/1.1 "), "{}", got.escape_ascii());
            clients.insert(step.client, (id, stream));
        }
        // What a server closes has time to arrive.
        sleep(SECOND).await;
    }
    scene.client.shutdown().await.unwrap();
    seen.lock().unwrap().clone()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answers = prop_oneof![
        6 => Just(Answer::Plain),
        1 => Just(Answer::Challenge),
        1 => Just(Answer::Persistent),
        1 => Just(Answer::Last)
    ];
    let step = (0..4_usize, prop::bool::weighted(0.3), answers);
    prop::collection::vec(step.prop_map(|(client, logs_on, answer)| Step { client, logs_on, answer }), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_connection_with_a_sign_of_a_logon_is_ever_anybody_elses(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        for seen in runtime.block_on(crowd(&steps)) {
            let others = |client| seen.iter().any(|(other, ..)| *other != client);
            for (at, (client, logs_on, answer)) in seen.iter().enumerate() {
                prop_assert!(!(*logs_on && others(*client)), "{seen:?}");
                let later = seen[at + 1..].iter().any(|(other, ..)| other != client);
                prop_assert!(!(answer.speaks_of_logons() && later), "{seen:?}");
            }
        }
    }

    #[test]
    fn without_logons_one_connection_is_enough(clients in prop::collection::vec(0..4_usize, 1..30)) {
        let step = |client| Step { client, logs_on: false, answer: Answer::Plain };
        let steps: Vec<Step> = clients.into_iter().map(step).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        prop_assert_eq!(runtime.block_on(crowd(&steps)).len(), 1);
    }
}
