use proptest::prelude::*;

use super::histories::any_command;
use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// These bytes lie in logs: a test that fails here means that old logs could not be read.
#[test]
fn golden_commands() {
    let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    let id_hex = "0102030405060708090a0b0c0d0e0f10";
    let golden = [
        (
            Command::InitCluster(InitCluster {
                cluster_id: "ab".into(),
                incarnation: 1,
                features: [("f".into(), 2)].into(),
            }),
            "0100 02 6162 00000001 01 01 66 0002".to_owned(),
        ),
        (
            Command::RegisterBroker(RegisterBroker {
                broker_id: 3,
                incarnation_id: id,
                endpoints: vec![BrokerEndpoint {
                    listener: "L".into(),
                    host: "h".into(),
                    port: 9092,
                    security_protocol: SecurityProtocol::SaslSsl,
                }],
                rack: Some("r".into()),
            }),
            format!("0200 00000003 {id_hex} 01 01 4c 01 68 2384 03 01 01 72"),
        ),
        (
            Command::BrokerStarted(BrokerStarted {
                broker_id: 3,
                incarnation_id: id,
            }),
            format!("0300 00000003 {id_hex}"),
        ),
        (
            Command::CreateTopics(CreateTopics {
                topics: vec![NewTopic {
                    name: "t".into(),
                    id,
                    assignments: vec![vec![1, 2], vec![2]],
                    configs: [("k".to_owned(), "v".to_owned())].into(),
                }],
            }),
            format!("0400 01 01 74 {id_hex} 02 02 00000001 00000002 01 00000002 01 01 6b 01 76"),
        ),
        (
            Command::DeleteTopics(DeleteTopics {
                topic_ids: vec![id],
            }),
            format!("0500 01 {id_hex}"),
        ),
        (
            Command::CreatePartitions(CreatePartitions {
                topics: vec![NewPartitions {
                    topic_id: id,
                    count_before: 1,
                    assignments: vec![vec![1]],
                }],
            }),
            format!("0600 01 {id_hex} 00000001 01 01 00000001"),
        ),
        (
            Command::AlterConfigs(AlterConfigs {
                changes: vec![
                    ConfigChange {
                        resource: ConfigResource::Topic("t".into()),
                        replace: true,
                        set: [("k".to_owned(), "v".to_owned())].into(),
                        delete: ["d".to_owned()].into(),
                    },
                    ConfigChange {
                        resource: ConfigResource::Broker(1),
                        replace: false,
                        set: [].into(),
                        delete: [].into(),
                    },
                    ConfigChange {
                        resource: ConfigResource::ClusterDefault,
                        replace: false,
                        set: [].into(),
                        delete: [].into(),
                    },
                ],
            }),
            "0700 03 00 01 74 01 01 01 6b 01 76 01 01 64 01 00000001 00 00 00 02 00 00 00"
                .to_owned(),
        ),
        (
            Command::AllocateProducerIds(AllocateProducerIds {
                broker_id: 1,
                count: 1000,
            }),
            "0800 00000001 000003e8".to_owned(),
        ),
        (
            Command::ChangePartitions(ChangePartitions {
                changes: vec![PartitionChange {
                    topic_id: id,
                    partition: 4,
                    leader_epoch: 5,
                    partition_epoch: 6,
                    isr: Some(vec![1]),
                    leader: Some(NO_LEADER),
                }],
            }),
            format!("0900 01 {id_hex} 00000004 00000005 00000006 01 01 00000001 01 ffffffff"),
        ),
        (
            Command::RaiseIncarnation(RaiseIncarnation {
                incarnation: 2,
                next_producer_id_min: 7,
            }),
            "0a00 00000002 0000000000000007".to_owned(),
        ),
    ];
    for (command, expected) in golden {
        let bytes = encode_command(&command).expect("encodes");
        assert_eq!(hex(&bytes), expected.replace(' ', ""), "{command:?}");
        assert_eq!(decode_command(&bytes), Ok(command));
    }
}

#[test]
fn golden_snapshot() {
    let image = run(
        cluster(&[(1, Some("r"))]),
        create(&[new_topic("t", 2, &[&[1]])]),
    );
    let bytes = encode_image(&image);
    let expected = concat!(
        "534c4d49 0000 0000000000000004 16 6b465a326e565152 52484f56325f6a62 713041555167",
        "00000001 0000000000000000",
        "01 10 6d657461646174612e76657273696f6e 0001",
        "01 00000001 00000000000000000000000000000000 0000000000000002",
        "01 09 504c41494e54455854 09 3132372e302e302e31 2384 00 01 01 72 00",
        "01 01 74 00000000000000000000000000000002 01",
        "01 00000001 01 00000001 00000001 00000000 00000000",
        "01 00 01 74 01 0c 726574656e74696f6e2e6d73 02 2d31",
    );
    assert_eq!(hex(&bytes), expected.replace(' ', ""));
    assert_eq!(decode_image(&bytes), Ok(image));
}

#[test]
fn what_is_not_understood_is_an_error() {
    assert_eq!(decode_command(&[]), Err(FormatError::Truncated));
    assert_eq!(
        decode_command(&[99, 0]),
        Err(FormatError::UnknownCommand(99))
    );
    assert_eq!(decode_command(&[0, 0]), Err(FormatError::UnknownCommand(0)));
    let newer = FormatError::UnknownCommandVersion {
        command: 8,
        version: 1,
    };
    assert_eq!(decode_command(&[8, 1]), Err(newer));
    assert_eq!(
        decode_command(&[5, 0, 0, 0]),
        Err(FormatError::TrailingBytes(1))
    );
    // A count beyond what follows reserves no memory.
    assert_eq!(
        decode_command(&[5, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(FormatError::Truncated)
    );
    assert_eq!(
        decode_command(&[5, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        Err(FormatError::Invalid("count"))
    );

    let mut snapshot = encode_image(&MetadataImage::default());
    assert_eq!(decode_image(&snapshot[..9]), Err(FormatError::Truncated));
    snapshot[5] = 1;
    assert_eq!(
        decode_image(&snapshot),
        Err(FormatError::UnknownSnapshotVersion(1))
    );
    snapshot[0] = 0;
    assert_eq!(decode_image(&snapshot), Err(FormatError::NotASnapshot));
    let topics = vec!["x".repeat(1 << 20); 17];
    let large = Command::CreateTopics(CreateTopics {
        topics: topics.iter().map(|name| new_topic(name, 1, &[])).collect(),
    });
    assert!(matches!(
        encode_command(&large),
        Err(FormatError::TooLarge { .. })
    ));
}

proptest! {
    #[test]
    fn commands_round_trip_and_any_cut_is_an_error(command in any_command(), cut in any::<prop::sample::Index>()) {
        let bytes = encode_command(&command)?;
        prop_assert_eq!(decode_command(&bytes), Ok(command));
        prop_assert!(decode_command(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn any_bytes_decode_or_fail(
        kind in 0u8..12,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        command in any_command(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut random = vec![kind, 0];
        random.extend(&bytes);
        let mut damaged = encode_command(&command)?;
        for (at, value) in flips {
            let at = at.index(damaged.len());
            damaged[at] = value;
        }
        for bytes in [random, damaged] {
            if let Ok(command) = decode_command(&bytes) {
                // Whatever decodes applies without a panic.
                let _ = apply(&cluster(&[(1, None)]), &command);
                prop_assert_eq!(decode_command(&encode_command(&command)?), Ok(command));
            }
        }
    }
}
