# Holds shares and the backend's state, and nothing else: rights on the account reach no other data.
resource "azurerm_storage_account" "this" {
  name                            = "st${var.project_name}${var.environment}${local.suffix}"
  resource_group_name             = azurerm_resource_group.this.name
  location                        = azurerm_resource_group.this.location
  account_kind                    = "StorageV2"
  account_tier                    = "Standard"
  account_replication_type        = var.storage_replication
  https_traffic_only_enabled      = true
  min_tls_version                 = "TLS1_2"
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = true # Container Apps mounts SMB shares by the account's key alone
  tags                            = local.tags
}

resource "azurerm_storage_share" "this" {
  for_each = var.shares

  name               = each.key
  storage_account_id = azurerm_storage_account.this.id
  quota              = each.value
}

resource "azurerm_container_app_environment_storage" "this" {
  for_each = var.shares

  name                         = each.key
  container_app_environment_id = azurerm_container_app_environment.this.id
  account_name                 = azurerm_storage_account.this.name
  access_key                   = azurerm_storage_account.this.primary_access_key
  share_name                   = azurerm_storage_share.this[each.key].name
  access_mode                  = "ReadWrite"
}
