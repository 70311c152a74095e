//! Guards: clients that send slowly, half, too much, or nothing at all hold nobody else up.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::client::Client;
use crate::house::{House, settings};

fn address(house: &House) -> std::net::SocketAddr {
    house.base().trim_start_matches("http://").parse().unwrap()
}

/// Sends bytes as they are and reads until the server closes.
async fn exchange(house: &House, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(house)).await.unwrap();
    // It may have answered and closed already.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    drop(read.expect("the server closes"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_ends_nothing() {
    let house = House::new().await;
    let many = (0..200).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let large =
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "y".repeat(64 * 1024));
    let cases: [(&[u8], &str); 6] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""),
        (b"nonsense\r\n\r\n", "HTTP/1.1 400"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-\xff\xfe: y\r\n\r\n", "HTTP/1.1 400"),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "HTTP/1.1 4"),
        (&format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").into_bytes(), "HTTP/1.1 431"),
        (large.as_bytes(), "HTTP/1.1 431"),
    ];
    for (bytes, expected) in cases {
        let answer = exchange(&house, bytes).await;
        assert!(answer.starts_with(expected), "{answer} to {}", String::from_utf8_lossy(bytes));
    }
    house.client().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn requests_that_come_at_once_on_one_connection_are_answered_in_order() {
    let house = House::new().await;
    let one = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = exchange(&house, format!("{}{last}", one.repeat(50)).as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 50);
    let last = answer.rfind("HTTP/1.1 404").unwrap();
    assert!(last > answer.rfind("HTTP/1.1 200").unwrap());
}

#[tokio::test]
async fn a_request_that_does_not_come_whole_is_ended() {
    let mut settings = settings();
    settings.connections.header_timeout = Duration::from_secs(1);
    settings.connections.request_timeout = Duration::from_secs(2);
    let house = House::with(settings).await;
    // Half a head.
    let began = Instant::now();
    exchange(&house, b"GET /healthz HTTP/1.1\r\nhost:").await;
    assert!(began.elapsed() < Duration::from_secs(20));
    // Half a body.
    let head = "POST /api/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    let answer = exchange(&house, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("REQUEST_TIMEOUT"));
    // A client that sends a byte now and then.
    let mut slow = TcpStream::connect(address(&house)).await.unwrap();
    let began = Instant::now();
    while slow.write_all(b"G").await.is_ok() && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        house.client().get("/healthz").await.expect(200);
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Guards: whoever holds as many connections as he can holds nobody out.
#[tokio::test]
async fn one_client_cannot_hold_the_connections_of_all() {
    let mut settings = settings();
    settings.connections.most = 100;
    settings.connections.per_client_max = 20;
    settings.connections.header_timeout = Duration::from_secs(600);
    let house = House::with(settings).await;
    let mut held = Vec::new();
    for _ in 0..60 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        held.push(socket.connect(address(&house)).await.unwrap());
    }
    let mut other = Client::from_address(house.base(), "127.0.0.3");
    other.get("/healthz").await.expect(200);
    // His own further ones are closed at once.
    let last = held.last_mut().unwrap();
    let mut byte = [0];
    let closed = tokio::time::timeout(Duration::from_secs(10), last.read(&mut byte)).await.unwrap();
    assert!(!matches!(closed, Ok(1..)));
    // What he gives back he can have again.
    drop(held);
    let mut again = Client::from_address(house.base(), "127.0.0.2");
    for _ in 0..100 {
        let tried = again.http.get(format!("{}/healthz", house.base())).send().await;
        if tried.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    again.get("/healthz").await.expect(200);
}

/// Guards: who connects and says nothing, or half of what begins HTTP/2, or does not read, is given
/// up.
#[tokio::test]
async fn connections_on_which_nothing_moves_are_given_up() {
    let mut settings = settings();
    settings.connections.header_timeout = Duration::from_millis(500);
    settings.connections.request_timeout = Duration::from_secs(1);
    let house = House::with(settings).await;
    for bytes in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        exchange(&house, bytes).await;
    }
    // Much is asked for and nothing read.
    let mut stream = TcpStream::connect(address(&house)).await.unwrap();
    let asked = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20);
    stream.write_all(asked.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut read = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut read)).await;
    drop(end.expect("it was given up"));
    assert!(read.len() < 20_000_000, "{}", read.len());
}
