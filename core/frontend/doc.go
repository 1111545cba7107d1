// Package frontend puts a browser interface in front of the API.
//
// Two interfaces exist. The unmodified Open WebUI single-page application is not
// part of this repository: [Install] takes the built files out of the open-webui
// wheel, checks them against the wheel's RECORD and lays them down below a data
// directory. Until that is done, a small built-in page (embedded, no build step,
// no external resource) serves for signing up, signing in and chatting.
//
// [Site] is the http.Handler for every request no API route took. It answers as
// the reference's static mounts do:
//
//	/static/*   the static folder, 404 JSON when absent
//	/pyodide/*  the Python runtime for the browser, with Access-Control-Allow-Origin: *
//	/*          the application; unknown paths are index.html, except *.js, which are 404
//
// Methods other than GET and HEAD are 405. Files come off the disk through an
// os.Root, so no request path and no symbolic link leads out of the installation,
// and nothing is cached in memory. Large text files have a gzip twin on the disk,
// which is the wheel's own deflate stream in a gzip frame: it costs no compression,
// neither at installation nor per request.
//
// # Layout of an installation
//
//	<dir>/current                   name of the version in use
//	<dir>/<version>/manifest.json   [Manifest]
//	<dir>/<version>/digests.txt     SHA-256 of every file, in sha256sum's format
//	<dir>/<version>/build/          open_webui/frontend of the wheel
//	<dir>/<version>/static/         open_webui/static of the wheel
//	<dir>/<version>/licenses/       the wheel's licence texts
//	<dir>/<version>/gzip/           gzip twins of files in build and static
package frontend
