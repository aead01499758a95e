use super::*;
use crate::supervisor::Supervisor;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Told(Mutex<HealthReport>);

impl Health for Told {
    fn report(&self) -> HealthReport {
        self.0.lock().clone()
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("reads");
    answer
}

#[tokio::test]
async fn the_pages_say_what_the_broker_says() {
    let registry = Registry::new();
    let supervisor = Supervisor::new(&registry).expect("registers");
    let told = Arc::new(Told(Mutex::default()));
    let state = HttpState {
        registry: registry.clone(),
        health: Arc::clone(&told) as Arc<dyn Health>,
    };
    let (listener, address) = bind("127.0.0.1:0").await.expect("binds");
    let stop = supervisor.stop_flag();
    let limits = HttpLimits {
        connections_max: 1,
        idle: Duration::from_millis(100),
    };
    let server = tokio::spawn(serve(Arc::new(listener), limits, state, stop));
    // It takes the only place, sends half a request, and loses the place.
    let mut half = TcpStream::connect(address).await.expect("connects");
    half.write_all(b"GET /met").await.expect("writes");

    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    told.0.lock().ready = true;
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    told.0.lock().problems.push("the disk is full".to_owned());
    let page = get(address, "/healthz").await;
    assert!(page.starts_with("HTTP/1.1 503"), "{page}");
    assert!(page.contains("problem: the disk is full"), "{page}");
    assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));

    supervisor.stop(Duration::from_secs(10)).await;
    server.await.expect("ends").expect("serves");
}
