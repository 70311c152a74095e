// Sets a new password with the token after the `#` of the address, which no server log has.
"use strict";
const form = document.getElementById("reset");
const told = document.getElementById("told");
const token = location.hash.slice(1);
// It does not stay in the history either.
history.replaceState(null, "", location.pathname);
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const password = document.getElementById("password").value;
  told.textContent = "…";
  try {
    const answer = await fetch("/api/auth/reset", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token, password }),
    });
    if (answer.ok) {
      form.remove();
      told.textContent = "The new password is set. You can log in with it now.";
      return;
    }
    const refusal = await answer.json();
    const details = refusal.details.map((detail) => `${detail.field ?? ""} ${detail.message}`.trim());
    told.textContent = [refusal.message, ...details].join(". ");
  } catch {
    told.textContent = "The service did not answer. Try again.";
  }
});
