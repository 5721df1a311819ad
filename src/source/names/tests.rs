//! A small name server of the test's own, on a port of its own: quick, slow, dead and hostile.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
use tokio::runtime::{Builder, Runtime};

use super::*;

/// What the server does with a question for the address with this last octet.
type Answers = fn(u8) -> Reply;

enum Reply {
    /// These labels, whatever bytes they are of.
    Labels(Vec<Vec<u8>>),
    /// NXDOMAIN.
    None,
    /// No word.
    Silence,
    /// Bytes that are no answer.
    Rubbish,
}

fn labels(name: &str) -> Reply {
    Reply::Labels(name.split('.').map(|it| it.as_bytes().to_vec()).collect())
}

/// A server; it ends with the test's process, or when it is told by an empty datagram.
struct Server {
    address: SocketAddr,
    questions: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(answers: Answers) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let questions = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&questions);
        let thread = std::thread::spawn(move || serve(&socket, answers, &counted));
        Self {
            address,
            questions,
            thread: Some(thread),
        }
    }

    fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    fn names(&self, runtime: &Runtime) -> Names {
        let mut server = NameServerConfig::udp(self.address.ip());
        server.connections = vec![ConnectionConfig::udp()];
        server.connections[0].port = self.address.port();
        let config = ResolverConfig::from_name_servers(vec![server]);
        Names::start_with(config, ResolverOpts::default(), runtime.handle()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let end = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        end.send_to(&[], self.address).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(socket: &UdpSocket, answers: Answers, questions: &AtomicUsize) {
    let mut bytes = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).unwrap();
        if length == 0 {
            return;
        }
        questions.fetch_add(1, Ordering::SeqCst);
        // The question begins with the last octet of the address, as text.
        let label = usize::from(bytes[12]);
        let last = std::str::from_utf8(&bytes[13..13 + label]).unwrap();
        let reply = match answers(last.parse().unwrap()) {
            Reply::Labels(labels) => reply(&bytes[..length], Some(&labels)),
            Reply::None => reply(&bytes[..length], None),
            Reply::Silence => continue,
            Reply::Rubbish => vec![0xff; 40],
        };
        socket.send_to(&reply, from).unwrap();
    }
}

/// The answer to `question` (RFC 1035): a PTR record with `labels`, good for ten seconds, or NXDOMAIN.
fn reply(question: &[u8], labels: Option<&[Vec<u8>]>) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|&byte| byte == 0).unwrap() + 5;
    let mut reply = question[..end].to_vec();
    let (code, count) = if labels.is_some() { (0, 1) } else { (3, 0) };
    reply[2..12].copy_from_slice(&[0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    if let Some(labels) = labels {
        let mut name = Vec::new();
        for label in labels {
            name.push(u8::try_from(label.len()).unwrap());
            name.extend(label);
        }
        name.push(0);
        reply.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 10, 0]);
        reply.push(u8::try_from(name.len()).unwrap());
        reply.extend(name);
    }
    reply
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn address(last: u8) -> IpAddr {
    [192, 168, 7, last].into()
}

/// All answers that are to come, in the order of the addresses.
fn answers(names: &mut Names, runtime: &Runtime) -> Vec<(IpAddr, Option<String>)> {
    let mut all = runtime.block_on(async {
        let mut all = Vec::new();
        while names.is_busy() {
            let next = timeout(Duration::from_secs(20), names.next());
            all.push(next.await.expect("an answer within its time"));
        }
        all
    });
    all.sort();
    all
}

#[test]
fn an_address_is_asked_about_once() {
    let server = Server::start(|last| match last {
        1 => labels("printer.office.example"),
        _ => Reply::None,
    });
    let runtime = runtime();
    let mut names = server.names(&runtime);
    for _ in 0..100 {
        names.ask(address(1));
        names.ask(address(2));
    }
    assert_eq!(
        answers(&mut names, &runtime),
        [
            (address(1), Some("printer.office.example".to_owned())),
            (address(2), None)
        ]
    );
    for _ in 0..100 {
        names.ask(address(1));
        names.ask(address(2));
    }
    assert!(!names.is_busy());
    assert_eq!(server.questions(), 2);
    let Asked {
        questions,
        named,
        nameless,
        ..
    } = names.count();
    assert_eq!((questions, named, nameless), (2, 1, 1));
}

#[test]
fn a_name_that_is_none_is_told_as_none() {
    let server = Server::start(|last| match last {
        1 => Reply::Labels(vec![b"a\x1b[2J".to_vec(), b"example".to_vec()]),
        2 => Reply::Labels(vec![b"=cmd|x".to_vec()]),
        3 => Reply::Labels(vec![vec![0xff, 0xfe], b"x".to_vec()]),
        4 => Reply::Labels(vec![b"$(reboot)".to_vec()]),
        _ => labels("pc"),
    });
    let runtime = runtime();
    let mut names = server.names(&runtime);
    for last in 1..=5 {
        names.ask(address(last));
    }
    let mut expected: Vec<_> = (1..=4).map(|last| (address(last), None)).collect();
    expected.push((address(5), Some("pc".to_owned())));
    assert_eq!(answers(&mut names, &runtime), expected);
    assert_eq!(names.count().named, 1);
    assert_eq!(names.count().unfit + names.count().failed, 4);
}

#[test]
fn a_server_that_is_dead_or_mad_costs_its_time_and_no_more() {
    for reply in [(|_| Reply::Silence) as Answers, |_| Reply::Rubbish] {
        let server = Server::start(reply);
        let runtime = runtime();
        let mut names = server.names(&runtime);
        let began = Instant::now();
        for last in 0..16 {
            names.ask(address(last));
        }
        // Far less than one answer is waited for.
        assert!(began.elapsed() < Duration::from_millis(1500));
        assert_eq!(names.asked.len(), MAX_ASKED);
        let all = answers(&mut names, &runtime);
        assert_eq!(all.len(), 16);
        assert!(all.iter().all(|(_, name)| name.is_none()));
        assert_eq!(names.count().failed, 16);
        // Eight at a time, two seconds each.
        assert!(
            began.elapsed() < Duration::from_secs(9),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn what_waits_and_what_is_known_is_bounded() {
    let server = Server::start(|_| Reply::Silence);
    let runtime = runtime();
    let mut names = server.names(&runtime);
    for number in 0..20_000_u32 {
        names.ask(Ipv4Addr::from(0x0a00_0000 + number).into());
    }
    assert_eq!(names.waiting.len(), MAX_WAITING);
    assert_eq!(names.asked.len(), MAX_ASKED);
    assert!(names.known.len() <= MAX_KNOWN);
    let dropped = 20_000 - MAX_WAITING - MAX_ASKED;
    assert_eq!(names.count().dropped, dropped as u64);
}

#[test]
fn an_answer_that_nobody_waits_for_now_is_not_lost() {
    let server = Server::start(|_| labels("pc"));
    let runtime = runtime();
    let mut names = server.names(&runtime);
    names.ask(address(1));
    runtime.block_on(async {
        for _ in 0..20_000 {
            // As in a loop where something else was ready first.
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                answer = names.next() => {
                    assert_eq!(answer, (address(1), Some("pc".to_owned())));
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("no answer came");
    });
}

#[test]
fn nothing_asked_is_nothing_answered() {
    let server = Server::start(|_| Reply::None);
    let runtime = runtime();
    let mut names = server.names(&runtime);
    let waited = runtime.block_on(async {
        timeout(Duration::from_millis(20), names.next())
            .await
            .is_err()
    });
    assert!(waited);
}

#[test]
fn a_whole_list_takes_no_longer_than_it_may() {
    let server = Server::start(|last| match last % 2 {
        0 => labels("pc"),
        _ => Reply::Silence,
    });
    let runtime = runtime();
    let names = server.names(&runtime);
    let began = Instant::now();
    let found = all_of(names, &runtime, (0..60).map(address).collect());
    assert!(began.elapsed() < PATIENCE + Duration::from_secs(2));
    assert!(
        found
            .iter()
            .any(|(it, name)| *it == address(0) && name == "pc")
    );
}
