//! What a folder must do beyond what every store does: races between writers, crashes, nothing before first use.

use std::sync::Arc;

use object_store::{ObjectStoreExt, PutMode, UpdateVersion};

use super::*;

const THREADS: usize = 8;
const ROUNDS: usize = 25;

fn update(result: &PutResult) -> PutMode {
    PutMode::Update(UpdateVersion {
        e_tag: result.e_tag.clone(),
        version: None,
    })
}

#[test]
fn of_many_writers_with_one_base_one_wins() {
    let folder = tempfile::tempdir().expect("temp folder");
    let location = Path::from("a/counter");
    let first = Files::new(folder.path().to_owned());
    let mut base = first
        .put(
            &location,
            &PutPayload::from_static(b"start"),
            &PutMode::Create,
        )
        .expect("new");
    for round in 0..ROUNDS {
        let barrier = Arc::new(std::sync::Barrier::new(THREADS));
        let writers: Vec<_> = (0..THREADS)
            .map(|i| {
                // A handle each, as if they were processes.
                let files = Files::new(folder.path().to_owned());
                let (barrier, location, mode) =
                    (Arc::clone(&barrier), location.clone(), update(&base));
                std::thread::spawn(move || {
                    barrier.wait();
                    files.put(
                        &location,
                        &format!("{round}/{i}").into_bytes().into(),
                        &mode,
                    )
                })
            })
            .collect();
        let won: Vec<_> = writers
            .into_iter()
            .map(|w| w.join().expect("no panic"))
            .filter_map(|result| match result {
                Ok(put) => Some(put),
                Err(Error::Precondition { .. }) => None,
                Err(e) => panic!("{e}"),
            })
            .collect();
        assert_eq!(won.len(), 1);
        base = won.into_iter().next().expect("one");
    }
}

#[test]
fn of_many_creators_one_wins_and_deleters_do_not_disturb_them() {
    let folder = tempfile::tempdir().expect("temp folder");
    for round in 0..ROUNDS {
        let barrier = Arc::new(std::sync::Barrier::new(THREADS));
        let workers: Vec<_> = (0..THREADS)
            .map(|i| {
                let files = Files::new(folder.path().to_owned());
                let barrier = Arc::clone(&barrier);
                std::thread::spawn(move || {
                    barrier.wait();
                    // Makes and removes the folder that the others need.
                    let own = Path::from(format!("deep/er/own-{i}"));
                    let body = PutPayload::from_static(b"x");
                    files.put(&own, &body, &PutMode::Create).expect("own name");
                    files.delete(&own).expect("own name");
                    let shared = Path::from(format!("deep/er/round-{round}/x"));
                    files.put(&shared, &body, &PutMode::Create)
                })
            })
            .collect();
        let won = workers
            .into_iter()
            .map(|w| w.join().expect("no panic"))
            .filter(|result| match result {
                Ok(_) => true,
                Err(Error::AlreadyExists { .. }) => false,
                Err(e) => panic!("{e}"),
            })
            .count();
        assert_eq!(won, 1);
    }
}

#[test]
fn the_same_content_twice_is_the_same_version_and_other_content_is_not() {
    let folder = tempfile::tempdir().expect("temp folder");
    let files = Files::new(folder.path().to_owned());
    let put = |name: &str, body: &'static [u8]| {
        files
            .put(
                &Path::from(name),
                &PutPayload::from_static(body),
                &PutMode::Create,
            )
            .expect("new")
            .e_tag
    };
    let tag = put("a", b"1");
    assert_eq!(put("b", b"1"), tag);
    assert_ne!(put("c", b"2"), tag);
}

#[tokio::test]
async fn nothing_is_made_before_the_first_write_and_reads_find_nothing() {
    let folder = tempfile::tempdir().expect("temp folder");
    let root = folder.path().join("not/there");
    let store = FolderStore::new(&root);
    assert!(matches!(
        store.get(&Path::from("x")).await,
        Err(Error::NotFound { .. })
    ));
    let listed: Vec<_> = store.list(None).try_collect().await.expect("lists");
    assert!(listed.is_empty());
    assert!(!root.exists());
}

#[tokio::test]
async fn folders_that_become_empty_go_and_a_folder_is_no_object() {
    let folder = tempfile::tempdir().expect("temp folder");
    let store = FolderStore::new(folder.path());
    let put = async |key: &str| {
        store
            .put(&Path::from(key), PutPayload::from_static(b"x"))
            .await
            .expect("writes")
    };
    put("a/b/c").await;
    put("a/d").await;
    assert!(matches!(
        store.get(&Path::from("a/b")).await,
        Err(Error::NotFound { .. })
    ));
    store.delete(&Path::from("a/b/c")).await.expect("deletes");
    assert!(!folder.path().join("a/b").exists());
    assert!(folder.path().join("a/d").exists());
}

#[test]
fn what_a_dead_writer_left_is_removed_and_a_living_writer_is_spared() {
    let folder = tempfile::tempdir().expect("temp folder");
    let writer = Files::new(folder.path().to_owned());
    let living = writer.temp().expect("temp file");
    let temps = folder.path().join(files::PRIVATE_FOLDER).join("tmp");
    std::fs::write(temps.join("1-dead"), b"half").expect("writes");
    let count = || std::fs::read_dir(&temps).expect("reads").count();
    assert_eq!(count(), 2);
    let other = Files::new(folder.path().to_owned());
    drop(other.temp().expect("temp file"));
    assert_eq!(count(), 1);
    drop(living);
    assert_eq!(count(), 0);
}
