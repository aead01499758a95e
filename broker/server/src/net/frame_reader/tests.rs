use super::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.expect("connects"), server.expect("accepts").0)
}

fn frame(len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = i32::try_from(len).expect("small").to_be_bytes().to_vec();
    bytes.resize(len + 4, fill);
    bytes
}

async fn next(reader: &mut FrameReader, stream: &TcpStream) -> Result<ReadEvent, ReadError> {
    std::future::poll_fn(|waker| reader.poll_next(stream, waker)).await
}

async fn frame_from(reader: &mut FrameReader, stream: &TcpStream) -> ReadFrame {
    loop {
        match next(reader, stream).await.expect("reads") {
            ReadEvent::Frame(frame) => return frame,
            ReadEvent::Begun => assert!(reader.begun().is_some()),
            ReadEvent::Closed => panic!("closed"),
        }
    }
}

async fn error_from(reader: &mut FrameReader, stream: &TcpStream) -> ReadError {
    loop {
        match next(reader, stream).await {
            Err(error) => return error,
            Ok(ReadEvent::Begun) => {}
            Ok(other) => panic!("{other:?}"),
        }
    }
}

fn budget() -> Arc<MemoryBudget> {
    Arc::new(MemoryBudget::new(8 << 20, 8 << 20))
}

#[tokio::test]
async fn frames_of_all_sizes_arrive_whole_and_in_order() {
    let (mut client, server) = pair().await;
    let sizes = [0, 1, 3, 100, 16_380, 16_384, 40_000, 1_000_000, 5];
    let sent: Vec<u8> = sizes
        .iter()
        .zip(1u8..)
        .flat_map(|(len, fill)| frame(*len, fill))
        .collect();
    let writer = tokio::spawn(async move {
        // In odd pieces, so that lengths are cut as well.
        for piece in sent.chunks(7_919) {
            client.write_all(piece).await.expect("writes");
        }
    });
    let budget = budget();
    let mut reader = FrameReader::new(2 << 20, Arc::clone(&budget));
    for (len, fill) in sizes.iter().zip(1u8..) {
        let got = frame_from(&mut reader, &server).await;
        assert_eq!(got.bytes.len(), *len);
        assert!(got.bytes.iter().all(|b| *b == fill));
    }
    writer.await.expect("writer");
    assert!(matches!(
        next(&mut reader, &server).await.expect("reads"),
        ReadEvent::Closed
    ));
    assert_eq!(budget.used_bytes(), 0);
    assert!(reader.staging.is_none());
}

#[tokio::test]
async fn a_frame_above_the_limit_is_refused_before_memory_is_taken() {
    let (mut client, server) = pair().await;
    client
        .write_all(&i32::MAX.to_be_bytes())
        .await
        .expect("writes");
    let budget = budget();
    let mut reader = FrameReader::new(1 << 20, Arc::clone(&budget));
    let error = next(&mut reader, &server).await.expect_err("too large");
    assert!(matches!(
        error,
        ReadError::Frame(FrameError::TooLarge { .. })
    ));
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test]
async fn a_torn_frame_says_how_much_was_read() {
    let (mut client, server) = pair().await;
    client
        .write_all(&frame(100, 1)[..54])
        .await
        .expect("writes");
    drop(client);
    let mut reader = FrameReader::new(1 << 20, budget());
    let error = error_from(&mut reader, &server).await;
    assert!(
        matches!(
            error,
            ReadError::Torn {
                size: 100,
                read: 50
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_frame_waits_for_the_budget_and_then_goes_on() {
    let (mut client, server) = pair().await;
    client.write_all(&frame(10_000, 3)).await.expect("writes");
    let budget = Arc::new(MemoryBudget::new(12 * 1024, 0));
    let taken: Vec<_> = (0..12).filter_map(|_| budget.try_take(1024)).collect();
    let mut reader = FrameReader::new(1 << 20, Arc::clone(&budget));
    // Polled and dropped several times: no progress is lost.
    for _ in 0..3 {
        let poll = tokio::time::timeout(
            std::time::Duration::from_millis(5),
            next(&mut reader, &server),
        );
        assert!(poll.await.is_err());
    }
    assert!(reader.begun().is_none());
    drop(taken);
    let got = frame_from(&mut reader, &server).await;
    assert_eq!(got.bytes.len(), 10_000);
}

#[tokio::test]
async fn only_a_produce_holds_its_permit_through_its_slices() {
    let (mut client, server) = pair().await;
    for fill in [0, 1] {
        client.write_all(&frame(100, fill)).await.expect("writes");
    }
    let mut reader = FrameReader::new(1 << 20, budget());
    let produce = frame_from(&mut reader, &server).await;
    let other = frame_from(&mut reader, &server).await;
    assert!(produce.permit.is_none());
    assert!(other.permit.is_some());
}
