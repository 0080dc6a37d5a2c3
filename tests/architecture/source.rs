//! Rust source, as far as the floors need it: the paths that a file names, outside of comments, strings and tests.

/// A piece of source text: a word, `::`, or a single character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    Sep,
    Mark(char),
}

pub(crate) type Tokens = Vec<(usize, Token)>;

/// A path as it is written, and whether a `use` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    pub(crate) used: bool,
}

/// The tokens of a file without comments, literals, lifetimes and whatever is `#[cfg(test)]`.
pub(crate) fn tokens(text: &str) -> Tokens {
    without_tests(&lex(text))
}

/// All paths of two or more parts, and all that `use` names, its braces expanded.
pub(crate) fn paths(tokens: &Tokens) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (line, token) = &tokens[at];
        match token {
            // `impl Trait + use<'a>` is no import.
            Token::Word(word) if word == "use" && !is(tokens, at + 1, '<') => {
                at += 1;
                use_tree(tokens, &mut at, &[], &mut found);
            }
            Token::Word(word) => {
                let mut path = vec![word.clone()];
                while let (Some((_, Token::Sep)), Some((_, Token::Word(next)))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    path.push(next.clone());
                    at += 2;
                }
                if path.len() > 1 {
                    found.push(Named { line: *line, path, used: false });
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// The words that follow any of `keywords`: names of types, modules or statics.
pub(crate) fn declared(tokens: &Tokens, keywords: &[&str]) -> Vec<(usize, String)> {
    let word = |at: usize| match tokens.get(at) {
        Some((_, Token::Word(word))) => Some(word.as_str()),
        _ => None,
    };
    (0..tokens.len())
        .filter(|at| word(*at).is_some_and(|w| keywords.contains(&w)))
        .filter_map(|at| Some((tokens[at].0, word(at + 1)?.to_owned())))
        .collect()
}

/// Statics that can change: `mut`, or of a type that changes behind a shared reference.
pub(crate) fn changing_statics(tokens: &Tokens) -> Vec<usize> {
    const CELLS: &[&str] = &["Atomic", "Mutex", "RwLock", "Once", "Lazy", "Cell"];
    let starts = |at: &usize| matches!(&tokens[*at].1, Token::Word(word) if word == "static" || word == "thread_local");
    let changes = |at: &usize| {
        let declaration = tokens[at + 1..].iter().take_while(|(_, token)| !matches!(token, Token::Mark('=' | ';')));
        tokens[*at].1 == Token::Word("thread_local".into())
            || declaration.into_iter().any(|(_, token)| match token {
                Token::Word(word) => word == "mut" || CELLS.iter().any(|cell| word.contains(cell)),
                _ => false,
            })
    };
    (0..tokens.len()).filter(starts).filter(changes).map(|at| tokens[at].0).collect()
}

fn is(tokens: &Tokens, at: usize, mark: char) -> bool {
    matches!(tokens.get(at), Some((_, Token::Mark(found))) if *found == mark)
}

fn use_tree(tokens: &Tokens, at: &mut usize, prefix: &[String], found: &mut Vec<Named>) {
    let mut path = prefix.to_vec();
    let line = tokens.get(*at).map_or(0, |(line, _)| *line);
    loop {
        match tokens.get(*at).map(|(_, token)| token) {
            Some(Token::Sep) => *at += 1,
            Some(Token::Word(word)) if word == "as" => *at += 2,
            Some(Token::Word(word)) => {
                if word != "self" || path.is_empty() {
                    path.push(word.clone());
                }
                *at += 1;
            }
            Some(Token::Mark('*')) => {
                path.push("*".into());
                *at += 1;
            }
            Some(Token::Mark('{')) => {
                while !is(tokens, *at, '}') && *at < tokens.len() {
                    *at += 1;
                    if !is(tokens, *at, '}') {
                        use_tree(tokens, at, &path, found);
                    }
                }
                *at += 1;
                return;
            }
            _ => break,
        }
    }
    found.push(Named { line, path, used: true });
}

fn lex(text: &str) -> Tokens {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let end = match (chars[at], chars.get(at + 1).copied().unwrap_or(' ')) {
            ('/', '/') => at + chars[at..].iter().take_while(|c| **c != '\n').count(),
            ('/', '*') => block_comment(&chars, at),
            ('"', _) => string(&chars, at),
            ('r' | 'b' | 'c', '"' | '#' | 'r' | '\'') if prefixed_literal(&chars, at).is_some() => {
                prefixed_literal(&chars, at).unwrap_or(at + 1)
            }
            ('\'', _) => quote(&chars, at),
            (':', ':') => {
                tokens.push((line, Token::Sep));
                at + 2
            }
            (first, _) if first.is_alphanumeric() || first == '_' => {
                let raw = if chars[at..].starts_with(&['r', '#']) { 2 } else { 0 };
                let len = raw + chars[at + raw..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                tokens.push((line, Token::Word(chars[at..at + len].iter().collect())));
                at + len
            }
            (mark, _) => {
                if !mark.is_whitespace() {
                    tokens.push((line, Token::Mark(mark)));
                }
                at + 1
            }
        };
        line += chars[at..end.min(chars.len())].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < chars.len() {
        match chars.get(at..at + 2) {
            Some(['/', '*']) => (at, depth) = (at + 2, depth + 1),
            Some(['*', '/']) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of `b"…"`, `r#"…"#`, `b'…'` and their like; `None` where a plain word begins, `r#type` included.
fn prefixed_literal(chars: &[char], start: usize) -> Option<usize> {
    let after_word = start > 0 && (chars[start - 1].is_alphanumeric() || chars[start - 1] == '_');
    let letters = chars[start..].iter().take(2).take_while(|c| matches!(c, 'b' | 'r' | 'c')).count();
    let quote_or_hash = start + letters;
    let raw = chars[start..quote_or_hash].contains(&'r');
    let hashes = chars[quote_or_hash..].iter().take_while(|c| **c == '#').count();
    let opening = quote_or_hash + hashes;
    match chars.get(opening) {
        _ if after_word => None,
        Some('"') if raw => {
            let mut closing = vec!['"'];
            closing.resize(1 + hashes, '#');
            let body = chars[opening + 1..].windows(closing.len()).position(|window| window == closing);
            Some(body.map_or(chars.len(), |len| opening + 1 + len + closing.len()))
        }
        Some('"') if hashes == 0 => Some(string(chars, opening)),
        Some('\'') if hashes == 0 && !raw => Some(quote(chars, opening)),
        _ => None,
    }
}

/// The end of a character or of a lifetime.
fn quote(chars: &[char], start: usize) -> usize {
    if chars.get(start + 1) == Some(&'\\') {
        let len = chars[start + 3..].iter().take_while(|c| **c != '\'').count();
        start + 3 + len + 1
    } else if chars.get(start + 2) == Some(&'\'') {
        start + 3
    } else {
        start + 1 + chars[start + 1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count()
    }
}

fn without_tests(tokens: &Tokens) -> Tokens {
    let word = |text: &str| Token::Word(text.into());
    let marker = [Token::Mark('#'), Token::Mark('['), word("cfg"), Token::Mark('('), word("test"), Token::Mark(')')];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let here = tokens[at..].iter().map(|(_, token)| token);
        if here.take(marker.len()).eq(marker.iter()) {
            at = end_of_item(tokens, at + marker.len() + 1);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind the `;` or the closing brace of the item at `start`.
fn end_of_item(tokens: &Tokens, start: usize) -> usize {
    let (mut at, mut depth, mut import) = (start, 0, false);
    while at < tokens.len() {
        match &tokens[at].1 {
            Token::Word(word) if word == "use" && depth == 0 => import = true,
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}') if depth == 1 && !import => return at + 1,
            Token::Mark('}' | ')' | ']') => depth -= 1,
            Token::Mark(';') if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}
