package oidctest

import (
	"html/template"
	"net/http"
	"net/url"
)

var page = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sign in – Test Provider</title>
<style>body{font:16px sans-serif;display:grid;place-items:center;min-height:90vh;background:#eef}form{background:#fff;padding:2em;border-radius:8px;width:18em}
input,button{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.5em;margin:.3em 0 1em}.error{color:#b00}</style></head>
<body><form method="post"><h1>Test Provider</h1><p>Sign in to go on to <b>{{.Client}}</b>.</p>
{{with .Error}}<p class="error">{{.}}</p>{{end}}
<label>Name <input id="username" name="username" autocomplete="username" required></label>
<label>Password <input id="password" name="password" type="password" autocomplete="current-password"></label>
<button id="sign-in">Sign in</button></form></body></html>`))

// signInPage is where people say who they are. Its form goes to the same address.
func signInPage(w http.ResponseWriter, q url.Values, wrong string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = page.Execute(w, map[string]string{"Client": q.Get("client_id"), "Error": wrong})
}
