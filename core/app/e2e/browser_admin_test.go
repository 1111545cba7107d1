package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestBrowserUsers is what an administrator does on the pages of users and groups.
func TestBrowserUsers(t *testing.T) {
	d := newDesk(t)
	d.run("list", d.testUserList)
	d.run("add", d.testAddUsers)
	d.run("edit", d.testEditUser)
	d.run("pending", d.testPendingUser)
	d.run("preview and chats", d.testUserPreview)
	d.run("delete", d.testDeleteUser)
	d.run("group", d.testGroup)
	d.run("group members", d.testGroupMembers)
	d.run("default permissions", d.testDefaultPermissions)
	d.run("delete group", d.testDeleteGroup)
}

// userRows is an expression for the names or mail addresses in the table of users, in its order.
func userRows(column int) string {
	return fmt.Sprintf(`all(document, 'tbody tr').map(r => r.cells[%d].innerText.trim())`, column)
}

const (
	nameColumn  = 0
	roleColumn  = 1
	emailColumn = 2
)

func (d *desk) openUsers() {
	d.t.Helper()
	d.open("/admin/users/overview")
	d.eventually("the users are listed", userRows(nameColumn)+`.length > 0`)
}

// testUserList has more people than a page holds.
func (d *desk) testUserList(t *testing.T) {
	for i := range 32 {
		d.post("/api/v1/auths/add", fmt.Sprintf(`{"name": "Crowd %02d", "email": "crowd%02d@contract.test", "password": "x", "role": "user"}`, i, 31-i))
	}
	d.openUsers()
	d.eventually("the count", `document.querySelector('#overview').innerText.includes('33')`)
	d.eventually("thirty are on the first page, the oldest account first", fmt.Sprintf(`(r => r.length === 30 && r[0] === 'Contract Admin')(%s)`, userRows(nameColumn)))
	d.eventually("turn the page", `press(document.body, '2')`)
	d.eventually("three are left", fmt.Sprintf(`%s.join() === 'Crowd 29,Crowd 30,Crowd 31'`, userRows(nameColumn)))

	d.press("Email")
	d.eventually("the second page by mail", fmt.Sprintf(`%s.join() === 'crowd29@contract.test,crowd30@contract.test,crowd31@contract.test'`, userRows(emailColumn)))
	d.eventually("turn back", `press(document.body, '1')`)
	d.eventually("sorted by mail", fmt.Sprintf(`%s.slice(0, 3).join() === 'admin@contract.test,crowd00@contract.test,crowd01@contract.test'`, userRows(emailColumn)))
	d.press("Email")
	d.eventually("and the other way round", fmt.Sprintf(`%s[0] === 'crowd31@contract.test'`, userRows(emailColumn)))
	d.press("Role")
	d.eventually("sorted by role", fmt.Sprintf(`%s[0].toLowerCase() === 'admin'`, userRows(roleColumn)))

	d.fill("Search", "crowd 1")
	d.eventually("ten are found", fmt.Sprintf(`(r => r.length === 10 && r.every(n => n.startsWith('Crowd 1')))(%s)`, userRows(nameColumn)))
	d.fill("Search", "CROWD07@contract")
	d.eventually("one is found by mail", fmt.Sprintf(`%s.join() === 'Crowd 24'`, userRows(nameColumn)))
	d.press("Clear search")
	d.eventually("all are back", fmt.Sprintf(`%s.length === 30`, userRows(nameColumn)))
	d.shotStill("admin-users")
}

// testAddUsers adds people by the form and from a file.
func (d *desk) testAddUsers(t *testing.T) {
	d.openUsers()
	d.press("Add User")
	d.dialog("CSV Import")
	d.fill("Role", "user")
	d.fill("Name", "Nora New")
	d.fill("Email", "nora@contract.test")
	d.fill("Password", userPass)
	d.press("Save")
	d.noDialog()
	d.findUser("nora@contract.test", "Nora New", "user")
	d.openUsers()
	d.findUser("nora@contract.test", "Nora New", "user")

	// an address can be had once
	d.press("Add User")
	d.fill("Name", "Nora Again")
	d.fill("Email", "NORA@contract.test")
	d.fill("Password", userPass)
	d.press("Save")
	d.waitText("This email is already registered.")
	d.tolerate("/api/v1/auths/add", 400)

	d.press("CSV Import")
	d.upload("#upload-user-csv-input", "people.csv", []byte("Name,Email,Password,Role\n"+
		"Carl Sheet,carl@contract.test,"+userPass+",pending\nDora Sheet,dora@contract.test,"+userPass+",Admin\nno role,x@contract.test,pw\n"))
	d.waitText("1 document(s) selected.")
	d.press("Save")
	d.waitText("Row 4: invalid format.")
	d.waitText("Successfully imported 2 users.")
	d.openUsers()
	d.findUser("carl@contract.test", "Carl Sheet", "pending")
	d.findUser("dora@contract.test", "Dora Sheet", "admin")
	d.as("nora@contract.test")
}

// findUser searches the list for one person.
func (d *desk) findUser(email, name, role string) {
	d.t.Helper()
	d.fill("Search", email)
	d.eventually(email+" is found", fmt.Sprintf(`(r => r.length === 1 && r[0].cells[%d].innerText.trim() === %q && r[0].cells[%d].innerText.trim() === %q &&
		r[0].cells[%d].innerText.trim().toLowerCase() === %q)(all(document, 'tbody tr'))`, emailColumn, email, nameColumn, name, roleColumn, role))
}

// testEditUser changes all that can be changed of a person, who signs in with it.
func (d *desk) testEditUser(t *testing.T) {
	d.account("Edith Before", "edith@contract.test", "user")
	q := d.as("edith@contract.test")
	d.openUsers()
	d.findUser("edith@contract.test", "Edith Before", "user")
	d.pressBeside("edith@contract.test", "Edit User")
	d.dialog("Edit User")
	d.press("Sign out all devices")
	d.dialog("Sign out all devices?")
	d.press("Confirm")
	d.waitText("All sessions revoked")
	q.sessionEnded()

	d.dialog("Edit User")
	d.fill("Name", "Edith After")
	d.fill("Email", "edith.after@contract.test")
	d.fill("New Password", "contract-edited-1")
	d.press("Save")
	d.noDialog()
	d.openUsers()
	d.findUser("edith.after@contract.test", "Edith After", "user")
	q.signIn("edith.after@contract.test", "contract-edited-1")

	// the role is changed by a click on it
	d.press("Change User Role")
	d.dialog("Edith After")
	d.fill("Role", "Admin")
	d.press("Save")
	d.noDialog()
	d.openUsers()
	d.findUser("edith.after@contract.test", "Edith After", "admin")
	q.open("/admin/users/overview")
	q.eventually("the new administrator sees the users", userRows(nameColumn)+`.length > 0`)
	d.findUser(adminEmail, "Contract Admin", "admin")
	d.press("Edit User")
	d.dialog("Contract Admin")
	d.eventually("nobody changes their own role", `control('Role').disabled`)
}

// testPendingUser has somebody wait until the administrator lets them in.
func (d *desk) testPendingUser(t *testing.T) {
	d.account("Penny Pending", "penny@contract.test", "pending")
	q := d.window()
	q.open("/auth")
	q.do("sign in", visible("input#email"), typeInto("input#email", "penny@contract.test"), typeInto("input#password", userPass+kb.Enter))
	q.waitText("Account Activation Pending")
	q.waitText("Contract Admin (" + adminEmail + ")")
	q.do("reload", chromedp.Reload())
	q.waitText("Account Activation Pending")

	d.openUsers()
	d.findUser("penny@contract.test", "Penny Pending", "pending")
	d.press("Change User Role")
	d.dialog("Penny Pending")
	d.fill("Role", "User")
	d.press("Save")
	d.noDialog()
	d.findUser("penny@contract.test", "Penny Pending", "user")
	q.press("Check Again")
	q.do("is let in", visible("#chat-input"))
}

// testUserPreview looks at what a person may use, and at their chats.
func (d *desk) testUserPreview(t *testing.T) {
	d.account("Vera Viewed", "vera@contract.test", "user")
	q := d.as("vera@contract.test")
	token := q.evaluate("localStorage.token")
	q.call(token, http.MethodPost, "/api/v1/chats/new", `{"chat": {"title": "Secret garden", "models": [], "messages": [], "history": {"messages": {}, "currentId": null}}}`)
	d.openUsers()
	d.findUser("vera@contract.test", "Vera Viewed", "user")
	d.press("Preview Access")
	d.dialog("User Preview")
	d.waitText("No models accessible")
	d.waitText("No tools accessible")
	d.press("Close")
	d.noDialog()
	d.pressBeside("vera@contract.test", "Chats")
	d.dialog("Vera Viewed's Chats")
	d.waitText("Secret garden")
	d.press("Secret garden")
	d.until("the chat is shown", "location.pathname.startsWith('/s/')")
	d.waitText("Secret garden")
}

func (d *desk) testDeleteUser(t *testing.T) {
	d.account("Del Ette", "delette@contract.test", "user")
	q := d.as("delette@contract.test")
	d.openUsers()
	d.findUser("delette@contract.test", "Del Ette", "user")
	d.press("Delete User")
	d.dialog("Confirm your action")
	d.press("Cancel")
	d.noDialog()
	d.press("Delete User")
	d.dialog("Confirm your action")
	d.press("Confirm")
	d.noDialog()
	d.eventually("nobody is left", `all(document, 'tbody tr').length === 0`)
	d.openUsers()
	d.fill("Search", "delette")
	d.eventually("and nobody is found", `all(document, 'tbody tr').length === 0`)
	q.sessionEnded()
}

func (d *desk) openGroups() {
	d.t.Helper()
	d.open("/admin/users/groups")
	d.waitText("Default permissions")
}

// openGroup opens a group's dialog at one of its tabs.
func (d *desk) openGroup(name, tab string) {
	d.t.Helper()
	d.openGroups()
	d.click("[role=group] button[draggable]", name)
	d.dialog("Edit User Group")
	d.press(tab)
}

// testGroup makes a group and changes what it is called and what it may do.
func (d *desk) testGroup(t *testing.T) {
	d.openGroups()
	d.press("New Group")
	d.dialog("Add User Group")
	d.fill("Group Name", "Gardeners")
	d.fill("Group Description", "Those who dig")
	d.press("Permissions")
	d.fill("Prompts Access", "true")
	d.fill("Import Prompts", "true")
	d.press("Save")
	d.waitText("Group created successfully")
	d.noDialog()

	d.openGroup("Gardeners", "General")
	d.shows("Group Description", "Those who dig")
	d.fill("Group Name", "Head gardeners")
	d.fill("Group Description", "Those who say where to dig")
	d.fill("Who can share to this group", "No one")
	d.press("Permissions")
	d.shows("Prompts Access", "true")
	d.shows("Import Prompts", "true")
	d.shows("Tools Access", "false")
	d.fill("Knowledge Access", "true")
	d.press("Save")
	d.waitText("Group updated successfully")

	d.openGroup("Head gardeners", "General")
	d.shows("Group Name", "Head gardeners")
	d.shows("Group Description", "Those who say where to dig")
	d.shows("Who can share to this group", "No one")
	d.press("Permissions")
	d.shows("Knowledge Access", "true")
	d.shows("Prompts Access", "true")
	d.shotStill("admin-group-permissions")
	d.waitText("Those who say where to dig")
	d.openGroups()
	d.eventually("one group is counted", `document.querySelector('#groups').innerText.includes('1')`)
}

// testGroupMembers has a person become a member, see what that brings, and leave again.
func (d *desk) testGroupMembers(t *testing.T) {
	d.account("Mia Member", "mia@contract.test", "user")
	d.post("/api/v1/models/create", fmt.Sprintf(`{"id": %q, "name": "Garden model", "meta": {}, "params": {}, "is_active": true,
		"access_grants": [{"principal_type": "group", "principal_id": %q, "permission": "read"}]}`, browserModel, d.groupID("Head gardeners")))
	q := d.as("mia@contract.test")
	q.until("she has no model", q.fetched("/api/models", "x.data.length === 0"))

	d.openGroup("Head gardeners", "Users")
	d.fill("Search", "mia")
	d.fill("Mia Member", "true")
	d.press("Close")
	d.waitText("1 direct members")
	d.openGroup("Head gardeners", "Users")
	d.shows("Mia Member", "true")
	d.press("Preview")
	d.waitText("Garden model")

	q.open("/")
	q.waitText("Garden model")
	q.say("good soil")
	q.awaitAnswer("You said: good soil")
	q.open("/workspace/prompts")
	q.waitText("No prompts found")

	d.openUsers()
	d.findUser("mia@contract.test", "Mia Member", "user")
	d.press("Preview Access")
	d.dialog("Head gardeners")
	d.waitText("Garden model")

	d.openGroup("Head gardeners", "Users")
	d.fill("Search", "mia")
	d.fill("Mia Member", "false")
	d.press("Close")
	d.waitText("0 direct members")
	q.open("/")
	q.waitText("Select a model")
	q.until("she has no model any more", q.fetched("/api/models", "x.data.length === 0"))
	q.open("/workspace/prompts")
	q.until("she is sent away", "location.pathname === '/'")
}

// groupID is the id of a group that there is.
func (d *desk) groupID(name string) string {
	d.t.Helper()
	return d.evaluate(fmt.Sprintf(`fetch('/api/v1/groups/', {headers: {Authorization: 'Bearer ' + localStorage.token}}).then(r => r.json()).then(x => x.find(g => g.name === %q).id)`, name))
}

// testDefaultPermissions takes a permission from everybody, and gives it to a group's members.
func (d *desk) testDefaultPermissions(t *testing.T) {
	d.account("Otto Ordinary", "otto@contract.test", "user")
	q := d.as("otto@contract.test")
	d.post("/api/v1/models/model/access/update", fmt.Sprintf(`{"id": %q, "access_grants": [{"principal_type": "user", "principal_id": "*", "permission": "read"}]}`, browserModel))
	compare := func(offered bool) {
		t.Helper()
		q.open("/")
		q.click("#model-selector-model-button", "Garden model")
		q.eventually(fmt.Sprintf("several models are offered: %t", offered), fmt.Sprintf(`all(document, '#model-selector-list [role=option]').length > 0 && !!all(document, '[aria-label=Compare]').length === %t`, offered))
	}
	compare(true)
	d.openDefaults()
	d.fill("Allow Multiple Models in Chat", "false")
	d.fill("Allow Temporary Chat", "false")
	d.press("Save")
	d.waitText("Default permissions updated successfully")
	d.openDefaults()
	d.shows("Allow Multiple Models in Chat", "false")
	d.shows("Allow Temporary Chat", "false")
	d.shows("Allow Chat Delete", "true")
	compare(false)

	d.openGroup("Head gardeners", "Permissions")
	d.fill("Allow Multiple Models in Chat", "true")
	d.press("Save")
	d.waitText("Group updated successfully")
	d.openGroup("Head gardeners", "Users")
	d.fill("Search", "otto")
	d.fill("Otto Ordinary", "true")
	d.press("Close")
	d.waitText("1 direct members")
	compare(true)

	d.openDefaults()
	d.press("Reset to Defaults")
	d.dialog("Are you sure")
	d.press("Confirm")
	d.waitText("Permissions reset to defaults")
	d.press("Save")
	d.waitText("Default permissions updated successfully")
	d.openDefaults()
	d.shows("Allow Temporary Chat", "true")
}

func (d *desk) openDefaults() {
	d.t.Helper()
	d.openGroups()
	d.click("button[aria-haspopup=dialog]", "Default permissions")
	d.dialog("Edit Default Permissions")
}

// testDeleteGroup has one group above another.
func (d *desk) testDeleteGroup(t *testing.T) {
	d.openGroups()
	d.press("New Group")
	d.fill("Group Name", "Apprentices")
	d.press("No parent")
	d.choose("Head gardeners")
	d.press("Save")
	d.waitText("Group created successfully")
	d.openGroups()
	d.eventually("it is below the other", `[...document.querySelectorAll('[role=group] button[draggable]')].some(b => b.title === 'Head gardeners / Apprentices')`)
	d.fill("Search Groups", "gardeners")
	d.press("Clear search")

	d.openGroup("Head gardeners", "General")
	d.press("Delete")
	d.dialog("Delete group")
	d.press("Confirm")
	d.waitText("Group deleted successfully")
	d.openGroups()
	d.eventually("its child is on its own", `[...document.querySelectorAll('[role=group] button[draggable]')].map(b => b.title).join() === 'Apprentices'`)
}
