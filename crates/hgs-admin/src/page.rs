//! The tables of `docs/admin-api.md`, made from the declarations of the operations. A test compares them with the page.

use std::fmt::Write as _;

use schemars::SchemaGenerator;
use serde_json::Value;

use crate::describe::Description;
use crate::operations::Operation;
use crate::types::EventKind;
use crate::{ErrorCode, OPERATIONS, Permission, Role};

/// The operations: what each does, what it takes, and the permission that it needs.
#[must_use]
pub fn operations() -> String {
    let mut table = String::from(
        "| method and path | permission | what it does | takes |\n|---|---|---|---|\n",
    );
    let mut generator = SchemaGenerator::default();
    for operation in OPERATIONS.all() {
        let description = operation.description(&mut generator);
        let taken = taken(&description);
        let Operation {
            method,
            path,
            permission,
            ..
        } = operation;
        let summary = operation.summary();
        let _ = writeln!(
            table,
            "| `{method} {path}` | `{permission}` | {summary} | {taken} |"
        );
    }
    table
}

/// The permissions and the roles that have them.
#[must_use]
pub fn permissions() -> String {
    let mut table = String::from("| permission |");
    for role in Role::ALL {
        let _ = write!(table, " {role} |");
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(Role::ALL.len()));
    table.push('\n');
    for permission in Permission::ALL {
        let _ = write!(table, "| `{permission}` |");
        for role in Role::ALL {
            let has = role.permissions().contains(*permission);
            table.push_str(if has { " yes |" } else { " |" });
        }
        table.push('\n');
    }
    table
}

/// The kinds of events and the permissions that they need.
#[must_use]
pub fn events() -> String {
    let mut table = String::from("| `kind` | permission | when |\n|---|---|---|\n");
    let schema = schemars::schema_for!(EventKind).to_value();
    let described = |kind: &EventKind| {
        let variants = schema["oneOf"].as_array().into_iter().flatten();
        let mut of_kind = variants.filter(|variant| variant["const"] == kind.to_string());
        let description = of_kind.next().map(|variant| &variant["description"]);
        description
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    for kind in EventKind::ALL {
        let _ = writeln!(
            table,
            "| `{kind}` | `{}` | {} |",
            kind.permission(),
            described(kind)
        );
    }
    table
}

/// The errors of a server, with their statuses.
#[must_use]
pub fn errors() -> String {
    let mut table = String::from("| status | `code` | when |\n|---|---|---|\n");
    for (code, meaning) in ErrorCode::OF_SERVERS {
        let value = serde_json::to_value(code).unwrap_or_default();
        let name = value.as_str().unwrap_or_default();
        let _ = writeln!(
            table,
            "| {} | `{name}` | {meaning} |",
            code.status().as_u16()
        );
    }
    table
}

impl Operation {
    /// What it does, in one line.
    pub(crate) fn summary(&self) -> String {
        let lines = self.documentation.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The fields of a body and of a query. Optional ones stand in brackets.
fn taken(description: &Description<'_>) -> String {
    let mut parts = Vec::new();
    for parameter in &description.parameters {
        if parameter["in"] == "query" {
            let name = parameter["name"].as_str().unwrap_or_default();
            parts.push(format!("[`?{name}`]"));
        }
        if parameter["in"] == "header" {
            let name = parameter["name"].as_str().unwrap_or_default();
            parts.push(format!("[header `{name}`]"));
        }
    }
    if let Some(body) = &description.body {
        let reference = body.schema["$ref"].as_str().unwrap_or_default();
        let name = reference.rsplit('/').next().unwrap_or_default();
        let schema = description.generator.definitions().get(name);
        let properties = schema.and_then(|schema| schema["properties"].as_object());
        let required = schema.and_then(|schema| schema["required"].as_array());
        for name in properties
            .into_iter()
            .flat_map(|properties| properties.keys())
        {
            let is_required =
                required.is_some_and(|names| names.contains(&Value::from(name.as_str())));
            parts.push(match is_required {
                true => format!("`{name}`"),
                false => format!("[`{name}`]"),
            });
        }
        if body.with_key {
            parts.push("[the key](#private-keys)".to_owned());
        }
    }
    parts.join(", ")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    /// Compares a file in `docs/` with what it should be. With `OPENHGS_WRITE_DOCS` set it is written instead.
    pub(crate) fn assert_page(name: &str, expected: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs")
            .join(name);
        if env::var_os("OPENHGS_WRITE_DOCS").is_some() {
            fs::write(&path, expected).unwrap();
        }
        let page = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            page == expected,
            "docs/{name} is not what the program does: \
             `OPENHGS_WRITE_DOCS=1 cargo test -p hgs-admin` writes it"
        );
    }

    #[test]
    fn the_tables_of_the_page_are_these() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/admin-api.md");
        let mut page = fs::read_to_string(path).unwrap();
        for (name, table) in [
            ("operations", operations()),
            ("permissions", permissions()),
            ("errors", errors()),
            ("events", events()),
        ] {
            let (begin, end) = (
                format!("<!-- {name} -->\n"),
                format!("<!-- end of {name} -->"),
            );
            let (before, rest) = page.split_once(&begin).expect("the page has the mark");
            let (_, after) = rest.split_once(&end).expect("the page has the mark");
            page = format!("{before}{begin}\n{table}\n{end}{after}");
        }
        assert_page("admin-api.md", &page);
    }
}
