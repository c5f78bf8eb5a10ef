//! Settings that weaken verification: they have `dangerous` in their name, and a server that starts
//! with one says so.

use serde_json::Value;

use super::Config;

impl Config {
    /// The settings with `dangerous` in their name that are not as in an empty file, such as
    /// `section.dangerous_setting = true`.
    #[must_use]
    pub fn dangerous_settings(&self) -> Vec<String> {
        let value = |config: &Self| {
            serde_json::to_value(config).expect("sections are tables of strings and numbers")
        };
        changed(&value(self), &value(&Self::default()), "")
    }
}

fn changed(found: &Value, default: &Value, name: &str) -> Vec<String> {
    match found {
        Value::Object(table) => table
            .iter()
            .flat_map(|(key, value)| {
                let dot = if name.is_empty() { "" } else { "." };
                changed(value, &default[key], &format!("{name}{dot}{key}"))
            })
            .collect(),
        value if name.contains("dangerous") && value != default => {
            vec![format!("{name} = {value}")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_dangerous_settings_that_were_changed_are_named() {
        let default = json!({"a": {"dangerous_x": false, "dangerous_y": 1, "z": 1}});
        let found = json!({"a": {"dangerous_x": true, "dangerous_y": 1, "z": 2}});
        assert_eq!(changed(&found, &default, ""), ["a.dangerous_x = true"]);
    }

    #[test]
    fn an_empty_file_is_not_dangerous() {
        assert!(Config::default().dangerous_settings().is_empty());
    }
}
