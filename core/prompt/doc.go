// Package prompt fills the variables of prompts: those of the server ({{USER_NAME}}, {{CURRENT_DATE}} and the like), of a
// chat ({{chat.variables.x}}), of an account ({{user.variables.x}}), and those of the task templates ({{prompt}},
// {{MESSAGES:END:2}}). The names and rules are those of Open WebUI 0.12.4.
package prompt
