//! Requests that read and change configs.

use kafka_protocol::messages::{
    alter_configs_request, describe_configs_request, incremental_alter_configs_request,
};

use crate::guard::schema::{ALL, Schema, boolean, int8, since, string, strings, structs};

pub(crate) static DESCRIBE_CONFIGS: Schema = Schema {
    name: "DescribeConfigsRequest",
    flexible_since: 4,
    fields: &[
        structs::<describe_configs_request::DescribeConfigsResource>(
            "Resources",
            ALL,
            &[
                int8("ResourceType", ALL),
                string("ResourceName", ALL),
                strings("ConfigurationKeys", ALL).nullable(ALL),
            ],
        ),
        boolean("IncludeSynonyms", since(1)),
        boolean("IncludeDocumentation", since(3)),
    ],
};

pub(crate) static INCREMENTAL_ALTER_CONFIGS: Schema = Schema {
    name: "IncrementalAlterConfigsRequest",
    flexible_since: 1,
    fields: &[
        structs::<incremental_alter_configs_request::AlterConfigsResource>(
            "Resources",
            ALL,
            &[
                int8("ResourceType", ALL),
                string("ResourceName", ALL),
                structs::<incremental_alter_configs_request::AlterableConfig>(
                    "Configs",
                    ALL,
                    &[
                        string("Name", ALL),
                        int8("ConfigOperation", ALL),
                        string("Value", ALL).nullable(ALL),
                    ],
                ),
            ],
        ),
        boolean("ValidateOnly", ALL),
    ],
};

pub(crate) static ALTER_CONFIGS: Schema = Schema {
    name: "AlterConfigsRequest",
    flexible_since: 2,
    fields: &[
        structs::<alter_configs_request::AlterConfigsResource>(
            "Resources",
            ALL,
            &[
                int8("ResourceType", ALL),
                string("ResourceName", ALL),
                structs::<alter_configs_request::AlterableConfig>(
                    "Configs",
                    ALL,
                    &[string("Name", ALL), string("Value", ALL).nullable(ALL)],
                ),
            ],
        ),
        boolean("ValidateOnly", ALL),
    ],
};
