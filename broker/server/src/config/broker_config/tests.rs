use super::*;

fn load(file: &str, overrides: &[&str]) -> Result<(BrokerConfig, Vec<String>), ConfigError> {
    BrokerConfig::load(&ConfigSources {
        file: Some((PathBuf::from("server.properties"), file.to_owned())),
        environment: Vec::new(),
        overrides: overrides.iter().map(|o| (*o).to_owned()).collect(),
        hostname: "node-a".to_owned(),
    })
}

#[test]
fn nothing_given_is_a_whole_configuration() {
    let (config, warnings) = BrokerConfig::load(&ConfigSources::default()).expect("loads");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.node_id, 1);
    assert_eq!(config.log_dirs, [PathBuf::from("./strandline-data")]);
    assert_eq!(config.listeners[0].host, "127.0.0.1");
    assert_eq!(config.listeners[0].port, 9092);
    assert_eq!(config.str("http.listener"), "127.0.0.1:9644");
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let sources = ConfigSources {
        file: Some((
            PathBuf::from("f"),
            "num.partitions=2\nlog.dirs=/f".to_owned(),
        )),
        environment: vec![("STRANDLINE_NUM_PARTITIONS".to_owned(), "3".to_owned())],
        overrides: vec!["num.partitions=4".to_owned()],
        hostname: String::new(),
    };
    let (config, _) = BrokerConfig::load(&sources).expect("loads");
    assert_eq!(config.i32("num.partitions"), 4);
    assert_eq!(config.log_dirs, [PathBuf::from("/f")]);
    assert_eq!(config.given().len(), 2);
}

#[test]
fn a_kafka_quickstart_file_starts() {
    let file = "process.roles=broker,controller\nnode.id=7\n\
        controller.quorum.voters=7@localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
        num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
        log.dirs=/tmp/kraft-combined-logs\noffsets.topic.replication.factor=1\n\
        transaction.state.log.min.isr=1\nlog.retention.hours=168\nlog.segment.bytes=1073741824\n";
    let (config, warnings) = load(file, &[]).expect("loads");
    assert_eq!(config.node_id, 7);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].advertised_host, "localhost");
    let named = |name: &str| warnings.iter().filter(|w| w.contains(name)).count();
    assert_eq!(named("controller.quorum.voters"), 1);
    assert_eq!(named("num.io.threads"), 1);
    assert_eq!(named("log.segment.bytes"), 0);
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    for (file, overrides, text) in [
        ("num.partitons=3", &[][..], "did you mean num.partitions?"),
        (
            "quite.odd=1",
            &[],
            "unknown config quite.odd (from server.properties)",
        ),
        ("num.partitions=0", &[], "expected a whole number from 1"),
        ("", &["num.partitions"], "expected key=value"),
        (
            "",
            &["auto.create.topics.enable=yes"],
            "expected true or false (from -o)",
        ),
        ("process.roles=controller", &[], "always a broker"),
        ("authorizer.class.name=org.X", &[], "no access control"),
        ("listeners=SSL://:9092", &[], "PLAINTEXT only"),
    ] {
        let err = load(file, overrides).expect_err(file).to_string();
        assert!(err.contains(text), "{file} {overrides:?}: {err}");
    }
}
