// Package backup writes what a server knows into one file while it serves, and puts it back.
//
// # The file
//
// A backup is a tar archive, compressed with gzip unless told otherwise. Unpacked by hand it is a data folder that a server
// starts on: webui.db and uploads are at its top. What this package needs beside is in two entries: galley-backup/head.json
// comes first and says what the file is, galley-backup/manifest.json comes last and has the size and the SHA-256 of every
// entry. A file without the latter is no backup, so that one that was cut short never passes for whole. The database is one
// SQLite file whatever the server's is, so that every backup can be restored into either kind.
//
// # What is in it
//
// Everything in the data folder but what can be had again (the web interface, Python packages, models for embedding and
// speech, spoken answers), what belongs to a moment (sockets, temporary files, other backups), and links that point
// elsewhere. Plugins and what they keep, the vector database, the audit log and the secret key are in: nobody can make them
// again. The secret key can be left out; because of it a backup is readable by its owner only.
//
// # What is promised
//
// The database is of one moment, whatever is written meanwhile: its pages are read in one read transaction, which keeps no
// writer of a write-ahead log waiting. (The log cannot be taken back while that lasts, so it grows by what is written.) A
// database with a rollback journal would have its writers wait, so it is first copied in short steps.
//
// Servers write an upload before its row and delete it after the row. Uploads are therefore linked into a folder of the
// backup's own before that moment and once more right after it began; what is deleted then keeps its link. So the content
// of every row of the database is in the backup, but for those that were missing before, and one that came after the first
// linking and went within the milliseconds of the second. They are named in the manifest and in [Report]. A file that was
// deleted before the moment does not come back. Where the file system has no hard links, uploads that are deleted while the backup
// runs are among those named.
//
// All other files are copied as they are found. SQLite databases among them are each of one moment, and come after the
// other files of their kind: the vector database of Open WebUI brings its index up to date from its database. If it was
// written to meanwhile, [Report] says so.
//
// # Restoring
//
// A backup is read from end to end before anything is written, and refused where one bit differs. It is then unpacked into
// a folder beside the data, checked, and put in place by renaming. From the first rename on there is a plan on the disk;
// a server does not start while it is there ([Unfinished]), and restoring again completes it. What was there before is kept
// in a folder that is itself a data folder.
package backup
