output "acr_login_server" {
  description = "Login server of the registry: docker pull $ACR_SERVER/image."
  value       = module.sockerless.acr_login_server
}

output "resource_group_name" {
  description = "The resource group of everything, jobs included."
  value       = module.sockerless.resource_group_name
}

output "managed_environment_name" {
  description = "The Container Apps environment."
  value       = module.sockerless.managed_environment_name
}

output "log_analytics_workspace_id" {
  description = "The workspace's customer id, a GUID: what queries want. It is not the ARM id."
  value       = module.sockerless.log_analytics_workspace_id
}

output "storage_account_name" {
  description = "The storage account of the shares."
  value       = module.sockerless.storage_account_name
}

output "virtual_network_name" {
  description = "The virtual network, for a machine that is to run the backend."
  value       = module.sockerless.virtual_network_name
}

output "private_dns_zone_name" {
  description = "The zone in which machines of the virtual network register themselves."
  value       = module.sockerless.private_dns_zone_name
}

output "backend_identity_id" {
  description = "ARM id of the backend's identity, to be put on the machine that runs it."
  value       = module.sockerless.backend_identity_id
}

output "backend_client_id" {
  description = "Client id of the backend's identity: AZURE_CLIENT_ID on a machine that has more than one."
  value       = module.sockerless.backend_client_id
}

output "pull_identity_id" {
  description = "ARM id of the identity that jobs pull with."
  value       = module.sockerless.pull_identity_id
}

output "backend_env" {
  description = "Shell lines that set what the backend reads: eval \"$(terraform output -raw backend_env)\"."
  value       = module.sockerless.backend_env
  sensitive   = true
}

output "backend_url" {
  description = "The backend that deploy_backend runs, for frontends; empty if it is not set."
  value       = module.sockerless.backend_url
}

output "backend_token" {
  description = "What frontends show that backend: terraform output -raw backend_token > sockerless.token."
  value       = module.sockerless.backend_token
  sensitive   = true
}

output "callback_url" {
  description = "Where containers reach the backend; empty if neither callback_url nor deploy_backend is set."
  value       = module.sockerless.callback_url
}

output "frontend_command" {
  description = "Starts the frontend on your machine. The token is the output backend_token, or in the data folder of the backend that you run."
  value       = module.sockerless.frontend_command
}
