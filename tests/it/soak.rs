//! Many clients that hold the proxy up, beside some that behave: those are served without an error, and the proxy's memory
//! does not grow. The proxy runs as a process of its own, so that its memory can be told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::harness::{Client, Process, Request, aside, eventually};

/// What is sent to slow readers: more than fits into the sockets on its way.
const LARGE_BYTES: usize = 32 * 1024 * 1024;

/// By how much the memory may move while nothing is gained or lost.
const TOLERANCE_KIB: u64 = 16 * 1024;

/// How long the others are served before the memory is looked at: until every slow client was turned away once, which
/// `header_timeout` (30 s) has happen, and as many keys live as ever will.
const WARM_UP: Duration = Duration::from_secs(35);

/// How many clients behave.
const WELL_BEHAVED: usize = 4;

/// How many clients of which kind there are.
#[derive(Clone, Copy, Debug)]
struct Soak {
    /// They send a head, and every other one a body, byte by byte.
    slow_loris: usize,
    /// They take an answer byte by byte.
    slow_readers: usize,
    /// For how long the others must be served, once those are there.
    lasts: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_nobody_up() {
    soak(Soak { slow_loris: 200, slow_readers: 50, lasts: Duration::from_secs(2) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute, and 6,000 open files: `make soak`"]
async fn thousands_of_slow_clients_hold_nobody_up_for_a_minute() {
    soak(Soak { slow_loris: 2000, slow_readers: 500, lasts: Duration::from_secs(60) }).await;
}

#[expect(clippy::print_stdout, reason = "`make soak` is run for these figures")]
async fn soak(soak: Soak) {
    let upstream = upstream().await;
    // Keys are forgotten soon, though not before their replay on a machine under load: what grows is no record.
    let proxy = Process::start(
        &format!(
            "endpoints = [\"http://{upstream}\"]\n[store]\nprune_interval = \"1s\"\n[idempotency]\nttl = \"5s\""
        ),
        &[],
    );
    let (slow, reading) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut attackers = JoinSet::new();
    for number in 0..soak.slow_loris {
        attackers.spawn(slow_loris(proxy.address(), number, Arc::clone(&slow)));
    }
    for _ in 0..soak.slow_readers {
        attackers.spawn(slow_reader(proxy.address(), Arc::clone(&reading)));
    }
    eventually("all slow clients are there", async || {
        slow.load(Ordering::SeqCst) >= soak.slow_loris && reading.load(Ordering::SeqCst) >= soak.slow_readers
    })
    .await;
    // What the first requests make the proxy allocate, and the keys that live at a time, belong to the beginning.
    all_well_behaved(proxy.address(), 0, WARM_UP.min(soak.lasts)).await;
    let memory_before = proxy.resident_kib();
    let mut latencies = all_well_behaved(proxy.address(), WELL_BEHAVED, soak.lasts).await;
    let memory_after = proxy.resident_kib();
    latencies.sort();
    let percentile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!(
        "{soak:?}: {} requests served, none failed; p50 {:?}, p99 {:?}, longest {:?}; resident memory {} KiB before, \
         {} KiB after; {} slow clients came, {} answers were read slowly",
        latencies.len(),
        percentile(50),
        percentile(99),
        percentile(100),
        memory_before,
        memory_after,
        slow.load(Ordering::SeqCst),
        reading.load(Ordering::SeqCst),
    );
    assert!(
        memory_after <= memory_before + TOLERANCE_KIB,
        "memory grew from {memory_before} to {memory_after} KiB"
    );
    attackers.abort_all();
}

/// All clients that behave, numbered from `first` on: how long each of their requests took.
async fn all_well_behaved(address: SocketAddr, first: usize, lasts: Duration) -> Vec<Duration> {
    let until = Instant::now() + lasts;
    let mut clients = JoinSet::new();
    for number in first..first + WELL_BEHAVED {
        clients.spawn(well_behaved(address, number, until));
    }
    let mut latencies = Vec::new();
    while let Some(served) = clients.join_next().await {
        latencies.extend(served.expect("every request of a well-behaved client is served"));
    }
    latencies
}

/// Sends GETs, new keys and repeated ones until then, and returns how long each took.
async fn well_behaved(address: SocketAddr, number: usize, until: Instant) -> Vec<Duration> {
    let mut client = Client::connect(address).await;
    let mut latencies = Vec::new();
    for count in 0.. {
        if Instant::now() >= until {
            break;
        }
        let charge = Request::charge(&format!("k-{number}-{count}"));
        for (request, is_replay) in [(Request::get("/small"), false), (charge.clone(), false), (charge, true)]
        {
            let begun = Instant::now();
            let answer = client.request(&request).await;
            latencies.push(begun.elapsed());
            assert_eq!((answer.status, answer.is_replay()), (200, is_replay), "{request:?}: {answer:?}");
        }
    }
    latencies
}

/// One byte a second, and again when the proxy has had enough.
async fn slow_loris(address: SocketAddr, number: usize, arrived: Arc<AtomicUsize>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        let mut begin = b"POST /v1/charges HTTP/1.1\r\nHost: api.test\r\n".to_vec();
        if number.is_multiple_of(2) {
            begin.extend(format!("Idempotency-Key: slow-{number}\r\nContent-Length: 1000\r\n\r\n").bytes());
        }
        let mut sent = stream.write_all(&begin).await;
        arrived.fetch_add(1, Ordering::SeqCst);
        while sent.is_ok() {
            sleep(Duration::from_secs(1)).await;
            sent = stream.write_all(b"x").await;
        }
    }
}

/// A kilobyte a second of a large answer, and again when the proxy has had enough.
async fn slow_reader(address: SocketAddr, arrived: Arc<AtomicUsize>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        SockRef::from(&stream).set_recv_buffer_size(4096).expect("SO_RCVBUF");
        let sent = stream.write_all(b"GET /large HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
        let mut some = [0; 1024];
        let mut read = if sent.is_ok() { stream.read(&mut some).await } else { Ok(0) };
        arrived.fetch_add(1, Ordering::SeqCst);
        while matches!(read, Ok(1..)) {
            sleep(Duration::from_secs(1)).await;
            read = stream.read(&mut some).await;
        }
    }
}

/// Answers with a small or, where the target asks for it, with a large body.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(aside(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(aside(serve(stream)));
        }
    }));
    address
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let piece = vec![b'x'; 64 * 1024];
    let mut request = Vec::new();
    loop {
        request.clear();
        // Bodies are shorter than the pieces in which they come.
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        if request.starts_with(b"GET /large") {
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n").as_bytes())
                .await?;
            for _ in 0..LARGE_BYTES / piece.len() {
                stream.write_all(&piece).await?;
            }
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await?;
        }
    }
}
