//! `strandline demo`: the main job in one command, on real data, checked.
//!
//! Steps: 1. look at the input ([`input`]); 2. a broker in this process, in a fresh folder ([`folder`]); 3. load over the
//! wire ([`load`]); 4. wait until all of it is in the object store and gone locally ([`tier`]); 5. read back from offset 0
//! and compare each record with the input ([`verify`]); 6. export as Parquet ([`parquet`]); 7. what to try next.
//!
//! Always holds: memory is bounded whatever the input's size, because each step reads the input anew; the demo succeeds
//! only when every record was checked.
//!
//! What it does not do: go on where an earlier demo ended. Each begins anew.

mod account;
mod arguments;
mod broker;
mod folder;
mod input;
mod load;
mod next;
mod parquet;
mod placement;
mod tier;
mod verify;

use std::sync::Arc;

use anyhow::{Context, ensure};
use strandline_client::{Admin, Client, ClientConfig};
use strandline_server::{Broker, clock, runtime};
use tokio::signal::unix::{SignalKind, signal};

pub use arguments::DemoArguments;

use account::{Account, bytes, count, per_second, seconds};
use folder::DemoFolder;
use input::Input;
use placement::Placement;

pub fn run(arguments: &DemoArguments) -> anyhow::Result<()> {
    let begun = clock::now();
    let account = Account::new();
    account.title("Strandline demo: produce, tier, read back, export");

    // Before anything of an earlier demo is replaced.
    account.step("Input");
    let bar = account.spinner("rows");
    let input = Arc::new(Input::inspect(
        arguments.origin(),
        arguments.key().as_deref(),
        &bar,
    )?);
    bar.finish_and_clear();
    describe_input(&account, &input);

    let folder = DemoFolder::prepare(arguments.dir())?;
    let topic = arguments.topic(input.origin());
    let config = broker::config(&folder)?;
    let demo = Demo {
        account: &account,
        placement: Placement::new(&topic, arguments.partitions(), input.keyed()),
        segment_bytes: arguments.segment_bytes(&input),
        input,
        folder,
        is_sample: arguments.is_sample(),
    };
    runtime(&config)?.block_on(async {
        let started = clock::now();
        let broker = Broker::start(config).await?;
        let bootstrap = broker::bootstrap(&broker)?;
        account.step("Broker");
        account.line(&format!(
            "serves Kafka clients on {bootstrap} and /metrics on {}, after {}",
            broker
                .http_address()
                .map_or_else(|| "-".to_owned(), |address| format!("http://{address}")),
            seconds(started.elapsed())
        ));
        account.line(&format!("data    {}", demo.folder.data().display()));
        account.line(&format!("store   {}", demo.folder.store().display()));
        let done = demo.steps(&bootstrap).await;
        if done.is_ok() {
            account.blank();
            account.line(&format!(
                "Everything was checked, in {}.",
                seconds(begun.elapsed())
            ));
            let live = arguments.keep_running().then_some(&*bootstrap);
            next::print(&account, &demo.folder, &topic, live, demo.is_sample);
            if arguments.keep_running() {
                until_interrupted(&account).await?;
            }
        }
        broker.shutdown().await;
        done
    })
}

async fn until_interrupted(account: &Account) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    account.blank();
    account.line("The broker stays up. Ctrl-C ends it.");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn describe_input(account: &Account, input: &Input) {
    account.line(&format!(
        "{}: {} of {}",
        input.origin(),
        bytes(input.stored_bytes()),
        input.layout()
    ));
    let facts = input.facts();
    let columns = match facts.columns.as_deref() {
        Some(columns) => format!(
            " of {} columns ({})",
            columns.len(),
            input::summary(columns)
        ),
        None => String::new(),
    };
    account.line(&format!("{} rows{columns}", count(facts.rows)));
    match input.key_field() {
        Some(field) => account.line(&format!(
            "keyed by {field}: {} rows have one",
            count(facts.keyed_rows)
        )),
        None => account.line("without a key (--key FIELD chooses one)"),
    }
}

/// What the steps share.
struct Demo<'a> {
    account: &'a Account,
    input: Arc<Input>,
    folder: DemoFolder,
    placement: Placement,
    segment_bytes: u64,
    is_sample: bool,
}

impl Demo<'_> {
    async fn steps(&self, bootstrap: &str) -> anyhow::Result<()> {
        let admin = Admin::new(Client::new(ClientConfig::new([bootstrap])));
        let loaded = self.load(&admin).await.context("loading failed")?;
        self.tier(&admin, &loaded.ends)
            .await
            .context("tiering failed")?;
        self.verify(bootstrap, &loaded)
            .await
            .context("reading back failed")?;
        self.export(&loaded).await.context("the export failed")
    }

    async fn load(&self, admin: &Admin) -> anyhow::Result<load::Loaded> {
        let topic = &self.placement.topic;
        self.account.step("Load");
        load::create_topic(admin, &self.placement, self.segment_bytes).await?;
        self.account.line(&format!(
            "topic {topic}: {} partitions, segments of {}, retention.ms=-1, local.retention.ms={}, tiered",
            self.placement.partitions,
            bytes(self.segment_bytes),
            load::LOCAL_RETENTION_MS
        ));
        let bar = self.account.bar(self.input.facts().rows, "records");
        let begun = clock::now();
        let loaded = load::load(admin.client(), &self.placement, &self.input, &bar).await?;
        bar.finish_and_clear();
        let took = begun.elapsed();
        self.account.line(&format!(
            "{} records, {} of JSON, acknowledged by all replicas in {}: {} records/s, {}/s",
            count(loaded.records),
            bytes(loaded.value_bytes),
            seconds(took),
            count(per_second(loaded.records, took)),
            bytes(per_second(loaded.value_bytes, took)),
        ));
        self.account.line(
            "idempotent producer, acks=all, zstd; each offset came back as the one that was due",
        );
        Ok(loaded)
    }

    async fn tier(&self, admin: &Admin, ends: &[i64]) -> anyhow::Result<()> {
        let topic = &self.placement.topic;
        self.account.step("Tier");
        let records: i64 = ends.iter().sum();
        let bar = self.account.bar(
            u64::try_from(records).unwrap_or(0),
            "records only in the store",
        );
        let begun = clock::now();
        tier::wait(admin, &self.folder, topic, ends, &bar).await?;
        bar.finish_and_clear();
        let store = self.folder.store_usage();
        self.account.line(&format!(
            "all {} records are in the object store and gone locally, after {}",
            count(u64::try_from(records).unwrap_or(0)),
            seconds(begun.elapsed())
        ));
        self.account.line(&format!(
            "store: {} segment objects with {}, {} other objects with {}",
            count(store.segments),
            bytes(store.segment_bytes),
            count(store.others),
            bytes(store.other_bytes)
        ));
        self.account.line(&format!(
            "local: {} of log on disk for {topic}",
            bytes(self.folder.log_bytes(topic))
        ));
        Ok(())
    }

    async fn verify(&self, bootstrap: &str, loaded: &load::Loaded) -> anyhow::Result<()> {
        self.account.step("Read back");
        let bar = self.account.bar(loaded.records, "records compared");
        let begun = clock::now();
        let compared =
            verify::compare(bootstrap, &self.placement, &self.input, &loaded.ends, &bar).await?;
        bar.finish_and_clear();
        let took = begun.elapsed();
        self.account.line(&format!(
            "{} records from offset 0 of {} partitions, key and value of each as in the input, in their order",
            count(compared.records),
            self.placement.partitions
        ));
        self.account.line(&format!(
            "{} in {}, all of it from the store: {} records/s, {}/s",
            bytes(compared.value_bytes),
            seconds(took),
            count(per_second(compared.records, took)),
            bytes(per_second(compared.value_bytes, took)),
        ));
        Ok(())
    }

    async fn export(&self, loaded: &load::Loaded) -> anyhow::Result<()> {
        self.account.step("Export");
        let bar = self.account.bar(loaded.records, "rows");
        let begun = clock::now();
        let summary = parquet::export_topic(&self.folder, &self.placement.topic, &bar).await?;
        bar.finish_and_clear();
        let took = begun.elapsed();
        parquet::check(&summary, &self.folder, &self.placement.topic, &loaded.ends)?;
        self.account.line(&format!(
            "{} rows in {} Parquet files with {}, from {} of log, read from the store alone in {}: {} rows/s",
            count(summary.records),
            summary.data_files().count(),
            bytes(summary.bytes_written),
            bytes(summary.log_bytes),
            seconds(took),
            count(per_second(summary.records, took)),
        ));
        // Of a CSV each column has one type.
        ensure!(
            summary.rejects == 0 || self.input.facts().columns.is_none(),
            "{} records of a CSV did not fit the table's columns: see rejects/ in {}",
            summary.rejects,
            summary.table
        );
        if summary.rejects > 0 {
            self.account.line(&format!(
                "rejects: {}; each is in rejects/ with its offset and cause",
                count(summary.rejects)
            ));
        }
        self.account.line(&format!("table   {}", summary.table));
        Ok(())
    }
}
