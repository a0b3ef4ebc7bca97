//! The log with real files, sockets and commands.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use super::file::LONGEST;
use super::*;
use crate::control;
use crate::control::api::Request;
use crate::control::server::{Lines, Reply, Sockets};

#[test]
fn events_are_in_the_file_and_numbers_go_on_after_a_restart() {
    let folder = Folder::new();
    let state_dir = folder.0.join("state");
    with_log(&state_dir, |log| {
        log.push(note("one"));
        log.push(note("two"));
    });
    let modes = [&state_dir, &path(&state_dir)].map(|path| fs::metadata(path).unwrap().mode() & 0o777);
    assert_eq!(modes, [0o750, 0o640]);
    with_log(&state_dir, |log| {
        assert_eq!(log.sentences(), [""; 0], "only those of this run");
        log.push(note("three"));
        assert_eq!(told(&log.records()), [(1, "one"), (2, "two"), (3, "three")]);
    });
    assert_eq!(told(&read(&state_dir).unwrap()), [(1, "one"), (2, "two"), (3, "three")]);
}

#[test]
fn a_torn_last_line_is_cut_and_rubbish_left_out() {
    let folder = Folder::new();
    with_log(&folder.0, |log| log.push(note("one")));
    let whole = fs::read(path(&folder.0)).unwrap();
    for torn in [&b"{\"seq\":7,\"time\":\"2026-"[..], &[0; 4096], b"\xff\xfe", b"{}"] {
        fs::write(path(&folder.0), [&whole[..], b"rubbish\n\n{\"seq\":9}\n", torn].concat()).unwrap();
        assert_eq!(told(&read(&folder.0).unwrap()), [(1, "one")]);
        with_log(&folder.0, |log| log.push(note("two")));
        assert_eq!(told(&read(&folder.0).unwrap()), [(1, "one"), (2, "two")], "{torn:?}");
    }
}

#[test]
fn what_is_torn_from_its_first_line_on_is_begun_anew() {
    let folder = Folder::new();
    fs::write(path(&folder.0), "{\"seq\":").unwrap();
    with_log(&folder.0, |log| log.push(note("one")));
    assert_eq!(fs::read(path(&folder.0)).unwrap().iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(told(&read(&folder.0).unwrap()), [(1, "one")]);
}

#[test]
fn two_files_of_a_mebibyte_hold_the_latest() {
    let folder = Folder::new();
    let mut file = EventFile::new(folder.0.clone());
    let mut memory = Memory::new("arr1".into(), Vec::new());
    let long = "x".repeat(900);
    for number in 0..4000 {
        let records = memory.note(note(&format!("{number} {long}")), Moment::now());
        records.iter().for_each(|record| file.append(record).unwrap());
    }
    let sizes =
        ["events.jsonl", "events.jsonl.1"].map(|name| fs::metadata(folder.0.join(name)).unwrap().len());
    assert!(sizes.iter().all(|size| (1..=LONGEST).contains(size)), "{sizes:?}");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
    let left = read(&folder.0).unwrap();
    let numbers: Vec<u64> = left.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, (4001 - numbers.len() as u64..=4000).collect::<Vec<_>>());
    assert!(numbers.len() > 900, "more than one file's: {}", numbers.len());
}

#[test]
fn of_a_file_that_is_too_long_only_the_end_is_read() {
    let folder = Folder::new();
    with_log(&folder.0, |log| log.push(note("one")));
    let line = fs::read(path(&folder.0)).unwrap();
    let file = OpenOptions::new().write(true).open(path(&folder.0)).unwrap();
    // A gap that costs no room: no line before it can be read any more.
    file.set_len(1 << 40).unwrap();
    OpenOptions::new().append(true).open(path(&folder.0)).unwrap().write_all(b"\n").unwrap();
    OpenOptions::new().append(true).open(path(&folder.0)).unwrap().write_all(&line).unwrap();
    assert_eq!(told(&read(&folder.0).unwrap()), [(1, "one")]);
}

#[test]
fn what_finds_no_room_on_the_way_to_the_disk_is_counted() {
    let folder = Folder::new();
    let log = EventLog::open("arr1", to(&folder.0)).unwrap();
    // Nobody takes anything out of this queue.
    let (sender, records) = sync_channel(2);
    let real = log.writer.lock().unwrap().replace(sender);
    for text in ["one", "two", "three", "four"] {
        log.push(note(text));
    }
    assert_eq!(records.try_iter().count(), 2);
    *log.writer.lock().unwrap() = real;
    log.push(note("five"));
    log.close();
    let left: Vec<(u64, u64)> = read(&folder.0).unwrap().iter().map(|r| (r.seq, r.missed)).collect();
    assert_eq!(left, [(5, 2)]);
    assert_eq!(log.records().len(), 5);
}

#[test]
fn what_was_folded_is_recorded_at_the_end() {
    let folder = Folder::new();
    with_log(&folder.0, |log| (0..5).for_each(|_| log.push(note("again"))));
    let left: Vec<(u64, u32)> = read(&folder.0).unwrap().iter().map(|r| (r.seq, r.count)).collect();
    assert_eq!(left, [(1, 1), (2, 4)]);
}

#[test]
fn syslog_gets_each_event_as_rfc_5424_has_it() {
    let folder = Folder::new();
    let socket = folder.0.join("log");
    let syslog = UnixDatagram::bind(&socket).unwrap();
    let to = Destinations { syslog: Some(socket), ..to(&folder.0.join("state")) };
    let log = EventLog::open("arr1", to).unwrap();
    log.push(note("a\nb"));
    log.push(Note { kind: "deaf", warning: true, ..note("deaf") });
    log.close();
    syslog.set_nonblocking(true).unwrap();
    for (start, kind, text) in [("<29>1 20", "test", "a b"), ("<28>1 20", "deaf", "deaf")] {
        let mut bytes = [0; 2048];
        let length = syslog.recv(&mut bytes).unwrap();
        let message = std::str::from_utf8(&bytes[..length]).unwrap();
        assert!(message.starts_with(start), "{message}");
        let end = format!(" rollcall {} {kind} - {text}", std::process::id());
        assert!(message.ends_with(&end), "{message}");
        assert_eq!(message.split(' ').nth(1).unwrap().parse::<crate::wall::WallTime>().err(), None);
    }
    assert!(syslog.recv(&mut [0; 8]).is_err());
}

#[test]
fn a_syslog_that_reads_nothing_delays_nobody() {
    let folder = Folder::new();
    let socket = folder.0.join("log");
    let _syslog = UnixDatagram::bind(&socket).unwrap();
    let to = Destinations { syslog: Some(socket), ..to(&folder.0.join("state")) };
    let log = EventLog::open("arr1", to).unwrap();
    // Far more than the socket's queue.
    (0..900).for_each(|number| log.push(note(&format!("{number}"))));
    log.close();
    assert_eq!(read(&folder.0.join("state")).unwrap().len(), 900);
}

#[test]
fn the_command_gets_the_event_on_its_input_and_in_its_environment() {
    let folder = Folder::new();
    let script = folder.script(
        "command",
        "cat > DIR/input; printf '%s|%s|%s|%s|%s' \
         \"$ROLLCALL_EVENT\" \"$ROLLCALL_NODE\" \"$ROLLCALL_ABOUT\" \"$ROLLCALL_TEXT\" \"$HOME\" > DIR/environment",
    );
    let log = EventLog::open("arr1", with_command(&folder, &script)).unwrap();
    log.push(Note { about: Some("arr2".into()), ..note("it's \"here\"") });
    log.close();
    let input = fs::read_to_string(folder.0.join("input")).unwrap();
    assert_eq!(serde_json::from_str::<EventRecord>(&input).unwrap(), log.records()[0]);
    assert!(input.ends_with('\n'));
    let environment = fs::read_to_string(folder.0.join("environment")).unwrap();
    assert_eq!(environment, "test|arr1|arr2|it's \"here\"|");
    assert_eq!(log.records().len(), 1, "nothing failed: {:?}", log.sentences());
}

#[test]
fn a_command_that_fails_is_an_event_for_which_it_is_not_run() {
    let folder = Folder::new();
    let failing = folder.script("failing", "echo x >> DIR/runs; exit 7");
    let cases = [(failing, "failed with exit status 7"), (folder.0.join("missing"), "cannot be started")];
    for (command, why) in cases {
        let log = EventLog::open("arr1", with_command(&folder, &command)).unwrap();
        log.push(note("one"));
        log.wait_for(2);
        log.close();
        let records = log.records();
        let failure = records.iter().find(|record| record.kind == COMMAND_FAILED).unwrap();
        assert!(failure.warning && failure.text.contains(why), "{}", failure.text);
        assert!(records.iter().filter(|record| record.kind == COMMAND_FAILED).count() == 1, "{records:?}");
        let _ = fs::remove_dir_all(folder.0.join("state"));
    }
    assert_eq!(fs::read_to_string(folder.0.join("runs")).unwrap(), "x\n");
}

#[test]
fn a_hanging_command_is_killed_with_what_it_started_and_the_log_goes_on() {
    let folder = Folder::new();
    let script = folder.script("command", "sleep 1000 & echo $! > DIR/pid.new; mv DIR/pid.new DIR/pid; wait");
    let patience = Duration::from_millis(500);
    let log = EventLog::open("arr1", Destinations { patience, ..with_command(&folder, &script) }).unwrap();
    log.push(note("one"));
    log.push(note("two"));
    assert_eq!(log.records().len(), 2, "nothing waits for the command");
    log.wait_for(3);
    assert!(log.sentences()[2].contains("was killed"), "{:?}", log.sentences());
    log.close();
    let child = fs::read_to_string(folder.0.join("pid")).unwrap();
    let gone = || match fs::read_to_string(format!("/proc/{}/stat", child.trim())) {
        // Where nobody reaps it, it stays as a zombie.
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    wait_until("what it started is gone", gone);
}

#[test]
fn an_agent_that_stops_does_not_wait_for_a_hanging_command() {
    let folder = Folder::new();
    let script = folder.script("command", "echo x >> DIR/runs; exec sleep 1000");
    let log = EventLog::open("arr1", with_command(&folder, &script)).unwrap();
    log.push(note("one"));
    log.push(note("two"));
    wait_until("the command runs", || folder.0.join("runs").exists());
    log.close();
    let failed = log.sentences();
    assert!(failed.iter().any(|text| text.contains("was killed")), "{failed:?}");
    assert_eq!(fs::read_to_string(folder.0.join("runs")).unwrap(), "x\n", "it is not run again");
}

#[test]
fn of_events_that_wait_for_the_command_the_oldest_are_dropped_and_counted() {
    let folder = Folder::new();
    let script = folder.script("command", "echo \"$ROLLCALL_TEXT\" >> DIR/runs");
    let commands = Commands::new(script, command::PATIENCE);
    let mut memory = Memory::new("arr1".into(), Vec::new());
    for number in 0..command::WAITING + 3 {
        memory.note(note(&format!("{number}")), Moment::now()).into_iter().for_each(|r| commands.push(r));
    }
    commands.end(Time::now() + Duration::from_secs(60));
    let failures = Mutex::new(Vec::new());
    commands.run(|text| failures.lock().unwrap().push(text));
    let failures = failures.into_inner().unwrap();
    assert!(failures.len() == 1 && failures[0].contains("not run for 3 events"), "{failures:?}");
    let runs = fs::read_to_string(folder.0.join("runs")).unwrap();
    assert_eq!((runs.lines().count(), runs.lines().next()), (command::WAITING, Some("3")));
}

#[test]
fn a_client_that_follows_gets_what_was_and_what_comes_until_it_has_had_enough() {
    let folder = Folder::new();
    let log = EventLog::open("arr1", to(&folder.0.join("state"))).unwrap();
    log.push(note("before"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sockets = runtime.block_on(async { Sockets::bind(&folder.0).unwrap() });
    let events = Arc::clone(&log);
    let server = runtime.spawn(async move {
        control::server::serve(&sockets, move |request| answer(Arc::clone(&events), request)).await;
    });

    let (sender, seen) = channel();
    let (enough, had_enough) = tokio::sync::oneshot::channel::<()>();
    let run_dir = folder.0.clone();
    let client = std::thread::spawn(move || {
        let request = Request::Events { follow: true };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let enough = async { had_enough.await.unwrap() };
        let see = |answer| sender.send(answer).unwrap();
        runtime.block_on(control::client::follow(&run_dir, &request, enough, see)).unwrap();
    });
    let next = || {
        let answer = seen.recv_timeout(Duration::from_secs(20)).unwrap();
        let Answer::Events { records } = answer else { panic!("{answer:?}") };
        records
    };
    assert_eq!(told(&next()), [(1, "before")]);
    log.push(note("then"));
    assert_eq!(told(&next()), [(2, "then")]);
    (3..=2000).for_each(|number| log.push(note(&format!("{number}"))));
    let mut latest = 2;
    while latest < 2000 {
        for record in next() {
            assert!(record.seq > latest, "{} after {latest}", record.seq);
            latest = record.seq;
        }
    }
    enough.send(()).unwrap();
    client.join().unwrap();
    wait_until("its stream ends", || log.latest.receiver_count() == 0);
    server.abort();
}

async fn answer(log: Arc<EventLog>, request: Request) -> Reply {
    assert_eq!(request, Request::Events { follow: true });
    let (sender, answers) = mpsc::channel(1);
    let (enough, told) = watch::channel(false);
    tokio::spawn(async move { log.follow(&sender, told).await });
    Reply::Many(Lines { answers, enough })
}

impl EventLog {
    fn wait_for(&self, records: usize) {
        wait_until("there are enough records", || self.records().len() >= records);
    }
}

fn with_log(state_dir: &Path, test: impl FnOnce(&EventLog)) {
    let log = EventLog::open("arr1", to(state_dir)).unwrap();
    test(&log);
    log.close();
}

fn to(state_dir: &Path) -> Destinations {
    Destinations::new(state_dir.to_owned(), false, None)
}

fn with_command(folder: &Folder, command: &Path) -> Destinations {
    Destinations { on_event: Some(command.to_owned()), ..to(&folder.0.join("state")) }
}

fn note(text: &str) -> Note {
    Note::new("test", false, text)
}

fn told(records: &[EventRecord]) -> Vec<(u64, &str)> {
    records.iter().map(|record| (record.seq, record.text.as_str())).collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "how long a test waits")]
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rollcall-events-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A shell script; `DIR` in it is this folder.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let (text, written) = (text.replace("DIR", &self.0.to_string_lossy()), self.0.join("text"));
        fs::write(&written, format!("#!/bin/sh\n{text}\n")).unwrap();
        // Written by another process: a file that a child of another test happens to have open for writing cannot be started.
        let path = self.0.join(name);
        let status = Command::new("install").args(["-m", "755"]).args([&written, &path]).status().unwrap();
        assert!(status.success());
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
