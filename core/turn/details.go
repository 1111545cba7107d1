package turn

import "regexp"

// detailsOrImage matches a <details> block without another in it, and a Markdown image.
var detailsOrImage = regexp.MustCompile(`(?is)<details\b[^<>]*>.*?</details>|!\[[^\[\]]*\]\([^()]*\)`)
