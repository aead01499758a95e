//! Rows from a thread that reads and parses to a task that awaits them.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Input, Row};

const CHUNK_ROWS: usize = 512;
const CHUNK_BYTES: usize = 1 << 20;
const CHUNKS_AHEAD: usize = 4;

/// All rows in their order. Ends after an error. Dropping the receiver ends the reading.
pub fn row_chunks(input: Arc<Input>) -> mpsc::Receiver<anyhow::Result<Vec<Row>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read(&input, &sender) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn read(input: &Input, sender: &mpsc::Sender<anyhow::Result<Vec<Row>>>) -> anyhow::Result<()> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for row in input.rows()? {
        let row = row?;
        bytes += row.value.len();
        chunk.push(row);
        if chunk.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
            bytes = 0;
            if sender
                .blocking_send(Ok(std::mem::take(&mut chunk)))
                .is_err()
            {
                return Ok(());
            }
        }
    }
    if !chunk.is_empty() {
        let _ = sender.blocking_send(Ok(chunk));
    }
    Ok(())
}
