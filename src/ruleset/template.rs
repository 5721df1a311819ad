//! Templates with typed holes. A hole is `{{name}}`; lines between `# {{if name}}` and `# {{end}}`
//! stand only where `name` has a value. A line with a hole that has several values is repeated.
//!
//! No expressions and no nesting: what cannot be said so has no place in `rules/`.

/// The values of the holes. A name that is not here has none.
pub(super) struct Values<'a>(Vec<(&'a str, Vec<String>)>);

impl<'a> Values<'a> {
    /// No values yet.
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// With one value for `name`.
    pub(super) fn with(self, name: &'a str, value: &(impl ToString + ?Sized)) -> Self {
        self.with_each(name, [value.to_string()])
    }

    /// With `name` set, for a condition that holds.
    pub(super) fn with_if(self, name: &'a str, holds: bool) -> Self {
        if holds { self.with(name, "") } else { self }
    }

    /// With a value for each line.
    pub(super) fn with_each(
        mut self,
        name: &'a str,
        values: impl IntoIterator<Item = String>,
    ) -> Self {
        let values: Vec<String> = values.into_iter().collect();
        if !values.is_empty() {
            self.0.push((name, values));
        }
        self
    }

    fn get(&self, name: &str) -> &[String] {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(&[], |(_, values)| values)
    }
}

/// `template` with its holes filled.
pub(super) fn render(template: &str, values: &Values<'_>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut is_shown = true;
    for line in template.lines() {
        match mark(line) {
            Some("end") => is_shown = true,
            Some(mark) => {
                let name = mark.strip_prefix("if ").unwrap_or(mark);
                is_shown = !values.get(name).is_empty();
            }
            None if is_shown => fill(line, values, &mut text),
            None => {}
        }
    }
    text
}

/// What stands in a line that is only a mark.
fn mark(line: &str) -> Option<&str> {
    line.trim()
        .strip_prefix("# {{")
        .and_then(|line| line.strip_suffix("}}"))
}

/// Adds `line`, once for each value of its first hole that has several.
fn fill(line: &str, values: &Values<'_>, text: &mut String) {
    let Some((before, name, after)) = hole(line) else {
        text.push_str(line);
        text.push('\n');
        return;
    };
    for value in values.get(name) {
        fill(&format!("{before}{value}{after}"), values, text);
    }
}

fn hole(line: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = line.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_and_parts_left_out() {
        let template =
            "a {{one}}\n# {{if two}}\nb {{two}}\n# {{end}}\n# {{if three}}\nc\n# {{end}}\nd\n";
        let values = Values::new()
            .with("one", &1)
            .with_each("two", ["x".to_owned(), "y".to_owned()])
            .with_if("three", false);
        assert_eq!(render(template, &values), "a 1\nb x\nb y\nd\n");
    }
}
